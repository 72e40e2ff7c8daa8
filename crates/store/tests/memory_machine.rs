//! What bounds Redis: the machine, control groups of both versions, `maxmemory`; and what follows for the plan.

use std::fs;
use std::path::Path;

use forebay_fast::Calibration;
use forebay_slow::{Census, Counts, Growth};
use forebay_store::Limits;
use forebay_store::memory::{Machine, MemoryPlan, PlanInputs, RedisMemory};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

fn write(root: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// 16 GiB of RAM, 10 GiB of it available; and these files beside.
fn machine(files: &[(&str, &str)]) -> Machine {
    let root = tempfile::tempdir().unwrap();
    let meminfo = "MemTotal:       16777216 kB\nMemFree:         1000000 kB\nMemAvailable:   10485760 kB\n";
    write(root.path(), &[("proc/meminfo", meminfo)]);
    write(root.path(), files);
    Machine::read(&root.path().join("proc"), &root.path().join("cgroup"), "self")
}

#[test]
fn without_a_control_group_the_machine_counts() {
    let machine =
        machine(&[("proc/self/cgroup", "0::/user.slice\n"), ("cgroup/user.slice/memory.max", "max\n")]);
    assert_eq!((machine.total_bytes, machine.available_bytes), (16 * GIB, 10 * GIB));
    assert_eq!(machine.cgroup, None);
}

#[test]
fn version_two_s_tightest_limit_on_the_way_up_counts_without_caches_that_can_go() {
    let machine = machine(&[
        ("proc/self/cgroup", "0::/system.slice/forebay.service\n"),
        ("cgroup/system.slice/forebay.service/memory.max", "max\n"),
        ("cgroup/system.slice/memory.max", "4294967296\n"),
        ("cgroup/system.slice/memory.current", "3221225472\n"),
        ("cgroup/system.slice/memory.stat", "anon 5\nfile 7\ninactive_file 1073741824\n"),
    ]);
    let group = machine.cgroup.unwrap();
    assert_eq!((group.limit_bytes, group.used_bytes, group.available_bytes()), (4 * GIB, 2 * GIB, 2 * GIB));
    assert!(group.file.ends_with("system.slice/memory.max"));
}

#[test]
fn version_one_is_read_too_and_its_no_limit_is_none() {
    let limited = machine(&[
        ("proc/self/cgroup", "5:cpu:/a\n4:memory:/docker/abc\n0::/\n"),
        ("cgroup/memory/docker/abc/memory.limit_in_bytes", "2147483648\n"),
        ("cgroup/memory/docker/abc/memory.usage_in_bytes", "1073741824\n"),
        ("cgroup/memory/docker/abc/memory.stat", "cache 9\ntotal_inactive_file 536870912\n"),
        ("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ("cgroup/memory/memory.usage_in_bytes", "1\n"),
    ]);
    let group = limited.cgroup.unwrap();
    assert_eq!((group.limit_bytes, group.used_bytes), (2 * GIB, GIB / 2));
    let unlimited = machine(&[
        ("proc/self/cgroup", "4:memory:/\n"),
        ("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ("cgroup/memory/memory.usage_in_bytes", "1\n"),
    ]);
    assert_eq!(unlimited.cgroup, None);
}

#[test]
fn in_a_container_the_group_is_the_root_that_is_seen() {
    let machine = machine(&[
        ("proc/self/cgroup", "4:memory:/docker/of-the-host\n"),
        ("cgroup/memory/memory.limit_in_bytes", "1073741824\n"),
        ("cgroup/memory/memory.usage_in_bytes", "0\n"),
    ]);
    assert_eq!(machine.cgroup.unwrap().limit_bytes, GIB);
}

fn census() -> Census {
    Census {
        counts: Counts {
            blocks: 100_000,
            transactions: 1_000_000,
            accounts: 200_000,
            delegates: 200,
            ..Counts::default()
        },
        inline_record_bytes: 200_000 * 42,
        delegate_record_bytes: 200 * 120,
        recent_blocks: 1_000,
        recent_transactions: 10_000,
        recent_payload_bytes: 10_000 * 117,
        growth: Growth { seconds: 10 * 24 * 3600, accounts: 10_000, transactions: 100_000 },
        ..Census::default()
    }
}

fn plan(adjust: impl FnOnce(&mut PlanInputs<'_>)) -> MemoryPlan {
    let limits = Limits::default();
    let mut inputs = PlanInputs {
        census: census(),
        chain_name_bytes: 12,
        delegates_per_round: 101,
        transactions_per_block_max: 25,
        limits: &limits,
        calibration: Calibration::default(),
        is_durable: true,
        horizon_days: 30,
        redis: RedisMemory::default(),
        machine: Some(Machine { total_bytes: 8 * GIB, available_bytes: 6 * GIB, cgroup: None }),
        postgres_bytes: 0,
        api_bytes: 16 * MIB,
    };
    adjust(&mut inputs);
    MemoryPlan::new(&inputs)
}

#[track_caller]
fn assert_consistent(plan: &MemoryPlan) {
    assert_eq!(plan.is_sufficient(), plan.needed_at_limit_bytes <= plan.available_bytes);
    let sum = |counted_only: bool| -> u64 {
        plan.parts
            .iter()
            .filter(|part| part.is_counted || !counted_only)
            .map(|part| part.at_limit_bytes)
            .sum()
    };
    assert_eq!((sum(true), sum(false)), (plan.counted_at_limit_bytes, plan.needed_at_limit_bytes));
    assert!(plan.needed_bytes <= plan.counted_at_limit_bytes);
}

#[test]
fn every_part_that_the_limits_allow_is_in_the_plan() {
    let durable = plan(|_| {});
    assert_consistent(&durable);
    let at_limit = |name: &str| {
        durable.parts.iter().find(|part| part.name == name).map_or(0, |part| part.at_limit_bytes)
    };
    for name in [
        "server",
        "accounts",
        "delegates",
        "transactionIndex",
        "blocks",
        "undo",
        "outbox",
        "keyTable",
        "tableResize",
        "clientBuffers",
        "aofBuffers",
        "fragmentation",
        "forkHeadroom",
    ] {
        assert!(at_limit(name) > 0, "{name}");
    }
    let volatile = plan(|inputs| inputs.is_durable = false);
    assert!(volatile.parts.iter().all(|part| part.name != "forkHeadroom" && part.name != "aofBuffers"));
    assert!(volatile.needed_at_limit_bytes < durable.needed_at_limit_bytes);
    assert_eq!(volatile.needed_bytes, durable.needed_bytes);
}

#[test]
fn the_longest_outbox_grows_with_both_limits_of_the_lag() {
    let at_limit = |blocks: usize, bytes: usize| {
        let limits = Limits { lag_blocks_max: blocks, lag_bytes_max: bytes, ..Limits::default() };
        let mut inputs_plan = None;
        plan(|inputs| {
            let own = PlanInputs { limits: &limits, transactions_per_block_max: 10_000, ..inputs.clone() };
            inputs_plan = Some(MemoryPlan::new(&own));
        });
        inputs_plan.unwrap().counted_at_limit_bytes
    };
    let (base, more_blocks, more_bytes) =
        (at_limit(100, 1 << 20), at_limit(1_000, 1 << 20), at_limit(100, 64 << 20));
    assert!(more_blocks > base + 900 * 500, "{base} {more_blocks}");
    // A waiting transaction is in a body, in an undo record, in the index, and may make an account.
    assert!(more_bytes > base + 63 * MIB, "{base} {more_bytes}");
}

#[test]
fn growth_reaches_the_horizon() {
    let (none, year) = (plan(|inputs| inputs.horizon_days = 0), plan(|inputs| inputs.horizon_days = 365));
    assert_eq!(none.needed_at_horizon_bytes, none.needed_bytes);
    // 365,000 accounts of some 50 bytes and 3,650,000 ids of some 15.
    let growth = year.needed_at_horizon_bytes - year.needed_bytes;
    assert!((60 * MIB..110 * MIB).contains(&growth), "{growth}");
    assert!(year.days_left().unwrap() > 365);
}

#[test]
fn no_horizon_and_no_growth_makes_the_plan_wrap() {
    let mut before = 0;
    for days in [0, 1, 365, 36_500, 10_000_000, u32::MAX] {
        let far = plan(|inputs| {
            inputs.horizon_days = days;
            inputs.census.growth = Growth { seconds: 1, accounts: 1_000_000, transactions: 10_000_000 };
            inputs.census.long_accounts = 100_000;
        });
        assert!(far.needed_at_horizon_bytes >= before, "{days} days: {} B", far.needed_at_horizon_bytes);
        assert_eq!(far.is_sufficient_at_horizon(), days == 0, "{days} days");
        before = far.needed_at_horizon_bytes;
    }
}

#[test]
fn what_the_operator_allows_bounds_it_as_maxmemory_does() {
    for (maxmemory, allowed, limit, title) in [
        (0, 0, None, ""),
        (20 * MIB, 0, Some(20 * MIB), "maxmemory,"),
        (0, 20 * MIB, Some(20 * MIB), "redis_memory_bytes_max,"),
        (30 * MIB, 20 * MIB, Some(20 * MIB), "redis_memory_bytes_max,"),
        (20 * MIB, 30 * MIB, Some(20 * MIB), "maxmemory,"),
    ] {
        let plan = plan(|inputs| {
            (inputs.redis.maxmemory_bytes, inputs.redis.allowed_bytes) = (maxmemory, allowed);
        });
        let bound = plan.bounds.iter().find(|bound| bound.name == "maxmemory");
        assert_eq!(bound.map(|bound| bound.limit_bytes), limit);
        assert!(bound.is_none_or(|bound| bound.title.starts_with(title)), "{bound:?}");
        assert_eq!(plan.is_sufficient(), limit.is_none());
    }
}

#[test]
fn the_tightest_bound_decides() {
    let roomy = plan(|_| {});
    assert!(roomy.is_sufficient());
    let remembered = 200_000 * 640 + 1_000_000 * 6;
    let held_back = 256 * MIB + 80 * MIB + 16 * MIB + remembered;
    assert_eq!(
        roomy.available_bytes,
        6 * GIB - held_back,
        "the node, its copy of the tail, accounts touched lately and known ids are held back"
    );

    let maxmemory = plan(|inputs| inputs.redis.maxmemory_bytes = 20 * MIB);
    assert_consistent(&maxmemory);
    assert!(!maxmemory.is_sufficient());
    assert_eq!(maxmemory.bounds[0].name, "maxmemory");
    let enough = plan(|inputs| inputs.redis.maxmemory_bytes = roomy.counted_at_limit_bytes);
    assert!(enough.is_sufficient(), "maxmemory need not hold what Redis does not count");

    let group = forebay_store::memory::Cgroup {
        file: "memory.max".into(),
        limit_bytes: GIB,
        used_bytes: GIB - 200 * MIB,
    };
    let cgroup = plan(|inputs| inputs.machine.as_mut().unwrap().cgroup = Some(group));
    assert_consistent(&cgroup);
    assert_eq!((cgroup.bounds[0].name, cgroup.is_sufficient()), ("cgroup", false));

    let busy = plan(|inputs| inputs.machine.as_mut().unwrap().available_bytes = 300 * MIB);
    assert!(!busy.is_sufficient(), "what other processes use is not there for Redis");
    let its_own = plan(|inputs| {
        inputs.machine.as_mut().unwrap().available_bytes = 300 * MIB;
        inputs.redis.resident_bytes = GIB;
    });
    assert!(its_own.is_sufficient(), "what Redis has already is its own");
}

#[test]
fn maxmemory_of_a_private_server_holds_the_plan_and_no_more_than_the_machine_has() {
    let roomy = plan(|_| {});
    assert!(roomy.maxmemory_bytes() > roomy.counted_at_limit_bytes);
    assert!(roomy.maxmemory_bytes() <= roomy.available_bytes);
    let tight = plan(|inputs| inputs.machine.as_mut().unwrap().available_bytes = 500 * MIB);
    assert!(tight.maxmemory_bytes() <= 500 * MIB && tight.maxmemory_bytes() >= tight.needed_bytes);
}

#[test]
fn in_a_small_control_group_maxmemory_is_what_a_load_takes_and_never_more_than_there_is_room_for() {
    let in_group = |limit_bytes: u64| {
        plan(|inputs| {
            let (file, used_bytes) = ("memory.max".into(), 10 * MIB);
            inputs.machine.as_mut().unwrap().cgroup =
                Some(forebay_store::memory::Cgroup { file, limit_bytes, used_bytes });
        })
    };
    let needed = plan(|_| {}).needed_bytes;
    // All of it is held back for the node; a load fits in all the same.
    let small = in_group(needed * 4);
    assert_eq!((small.available_bytes, small.is_sufficient(), small.can_be_loaded()), (0, false, true));
    let maxmemory = small.maxmemory_bytes();
    assert!(maxmemory > needed + 24 * MIB, "buffers of a load count, too: {maxmemory}, {needed}");
    assert!(maxmemory <= needed * 4 - 10 * MIB, "no more than the group allows: {maxmemory}, {needed}");
    // Redis itself fits in, with nothing beside it.
    let tight = in_group(needed + needed / 8 + 10 * MIB);
    assert!(tight.can_be_loaded());
    assert!(tight.maxmemory_bytes() >= needed && tight.maxmemory_bytes() <= needed + needed / 8);
    // Too small for the chain: no number would help.
    let hopeless = in_group(needed + 10 * MIB);
    assert!(!hopeless.can_be_loaded());
    assert!(hopeless.maxmemory_bytes() <= needed);
    assert_eq!(in_group(10 * MIB).maxmemory_bytes(), 1, "0 would be no limit");
}

#[test]
fn whoever_sets_maxmemory_says_how_much_may_be_loaded() {
    let set = plan(|inputs| {
        inputs.machine.as_mut().unwrap().available_bytes = MIB;
        inputs.redis.maxmemory_bytes = GIB;
    });
    assert!(!set.is_sufficient() && set.can_be_loaded());
}

#[test]
fn nobody_knows_the_machine_of_a_distant_redis_but_itself() {
    let distant = plan(|inputs| {
        inputs.machine = None;
        inputs.redis.system_bytes = 64 * MIB;
    });
    assert_consistent(&distant);
    assert_eq!((distant.available_bytes, distant.is_sufficient()), (64 * MIB, false));
    let silent = plan(|inputs| inputs.machine = None);
    assert!(silent.is_sufficient() && silent.bounds.is_empty());
}

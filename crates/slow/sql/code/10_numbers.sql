-- Numbers and texts: what the formats say, nothing of state.

-- The address that belongs to a public key: the first eight bytes of its sha256, little endian.
create function forebay_code.address_of(public_key bytea) returns bigint
language plpgsql immutable strict parallel safe as $$
declare
    hash bytea := sha256(public_key);
begin
    return get_byte(hash, 0)::bigint
        | (get_byte(hash, 1)::bigint << 8)
        | (get_byte(hash, 2)::bigint << 16)
        | (get_byte(hash, 3)::bigint << 24)
        | (get_byte(hash, 4)::bigint << 32)
        | (get_byte(hash, 5)::bigint << 40)
        | (get_byte(hash, 6)::bigint << 48)
        | (get_byte(hash, 7)::bigint << 56);
end $$;

-- The decimal text of a u64 that is kept as bigint. Null gives null, here and below, without a word of it: what is declared
-- strict is a call for each row, and not a part of the plan.
create function forebay_code.unsigned_text(bits bigint) returns text
language sql immutable parallel safe as $$
    select case when bits >= 0 then bits::text else (bits::numeric + 18446744073709551616)::text end
$$;

-- The inverse; null for what is no u64 in decimal digits.
create function forebay_code.unsigned_bits(digits text) returns bigint
language sql immutable strict parallel safe as $$
    select case
        when digits !~ '^[0-9]{1,20}$' then null
        when digits::numeric < 9223372036854775808 then digits::bigint
        when digits::numeric < 18446744073709551616 then (digits::numeric - 18446744073709551616)::bigint
    end
$$;

-- The whole part of a / b, rounded down also below zero; b > 0.
create function forebay_code.floor_div(a bigint, b bigint) returns bigint
language sql immutable parallel safe as $$
    select a / b - case when a % b < 0 then 1 else 0 end
$$;

-- A sum that stays a bigint all the way; one that leaves the range is an error. `sum` makes a numeric of each.
create aggregate forebay_code.total(bigint) (sfunc = int8pl, stype = bigint, initcond = '0', parallel = safe);

-- The weight of a delegate at a round end: its voters' shares times its productivity, which counts from 200 blocks on.
-- One multiplication of doubles; the cast rounds half to even.
create function forebay_code.votes_weight(voters_share bigint, produced integer, missed integer) returns bigint
language sql immutable parallel safe as $$
    select case
        when produced::bigint + missed < 200 then voters_share::float8::bigint
        else (voters_share::float8 * (produced::float8 / (produced::bigint + missed)::float8))::bigint
    end
$$;

-- The keys in a concatenation of signed keys (`+` or `-` and 64 hexadecimal digits), in order.
create function forebay_code.signed_keys(entries bytea) returns table (adds boolean, public_key bytea)
language sql immutable strict parallel safe rows 4 as $$
    select
        get_byte(entries, 65 * i) = ascii('+'),
        decode(encode(substring(entries from 65 * i + 2 for 64), 'escape'), 'hex')
    from generate_series(0, length(entries) / 65 - 1) i
$$;

-- The keys in a forger list, by the slot that they own.
create function forebay_code.forger_keys(forgers bytea) returns table (slot integer, public_key bytea)
language sql immutable parallel safe rows 101 as $$
    select i, substring(forgers from 32 * i + 1 for 32) from generate_series(0, length(forgers) / 32 - 1) i
$$;

-- Whether a round ends with the block: the genesis block counts as such an end too.
create function forebay_code.closes_round(height integer, delegates_per_round integer) returns boolean
language sql immutable parallel safe as $$
    select height = 1 or height % delegates_per_round = 0
$$;

-- The height of the last block of the round that a block belongs to.
create function forebay_code.closing_height(height integer, delegates_per_round integer) returns integer
language sql immutable strict parallel safe as $$
    select (height + delegates_per_round - 1) / delegates_per_round * delegates_per_round
$$;

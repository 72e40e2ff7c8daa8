-- Forebay's functions. A block's writes and a restore's are plain commands between MULTI and EXEC, sent when `guard` has
-- agreed and while what it looked at is watched; every other change goes through one of these, in one atomic call.
--
-- A call checks the owner's epoch first, then everything else that could refuse it, then writes. A runtime error would
-- undo nothing, so nothing that can fail comes after the first write. Numbers that matter (epochs, sequence numbers,
-- ids, amounts) are strings here: they are compared and moved, never calculated with.
--
-- Keys of every call: owner, meta, outbox, fence, then those of the plan. A call answers {'OK', …} or {reason, detail …}.

local OWNER, META, OUTBOX, FENCE = 1, 2, 3, 4

-- unpack() fails near 8,000 values; even, so that no pair is cut.
local CHUNK = 4000

-- What a plan may contain. `type`: what the key must be if it exists. `group`: arguments come in groups of so many.
-- `count`: exactly so many arguments.
local WRITES = {
  HSET = { type = 'hash', group = 2 },
  HDEL = { type = 'hash', group = 1 },
  HINCRBY = { type = 'hash', group = 2, count = 2 },
  SET = { type = 'string', group = 1, count = 1 },
  DEL = { group = 1, count = 0 },
  RPUSH = { type = 'list', group = 1 },
  RPOP = { type = 'list', group = 1, count = 0 },
  ZADD = { type = 'zset', group = 2 },
  ZREM = { type = 'zset', group = 1 },
  XTRIM = { type = 'stream', group = 1, count = 1 },
}

-- Nil if the caller holds the chain, else the refusal.
local function fenced(keys, epoch)
  local owner = redis.call('HMGET', keys[OWNER], 'epoch', 'released')
  if owner[1] == epoch and owner[2] ~= '1' then return nil end
  return { 'FENCED', owner[1] or '', owner[2] or '' }
end

local function wrong_state(keys, allowed)
  local state = redis.call('HGET', keys[META], 'state') or 'empty'
  for one in string.gmatch(allowed, '%a+') do
    if one == state then return nil end
  end
  return { 'NOTREADY', state }
end

-- HINCRBY fails on anything but a 64-bit integer: 15 digits on both sides cannot overflow it.
local function not_countable(key, field, delta)
  local found = redis.call('HGET', key, field) or '0'
  return #found > 15 or #delta > 15 or not found:match('^%-?%d+$') or not delta:match('^%-?%d+$')
end

-- A plan is a flat list: command, index of its key, number of arguments, arguments, command, …
-- Nil if it can be written without an error, else the refusal.
local function faulty_plan(keys, args, first)
  local types = {}
  local at = first
  while at <= #args do
    local name, key, count = args[at], keys[tonumber(args[at + 1]) or 0], tonumber(args[at + 2])
    local rule = WRITES[name]
    if not rule or not key or not count or count < 0 or at + 2 + count > #args or count % rule.group ~= 0
      or (rule.count and rule.count ~= count) or (count == 0 and rule.count ~= 0) then
      return { 'PLAN', tostring(at) }
    end
    if rule.type then
      local found = types[key]
      if not found then
        -- Most keys are hashes: their length costs less than their type.
        if rule.type == 'hash' and type(redis.pcall('HLEN', key)) == 'number' then
          found = 'hash'
        else
          found = redis.call('TYPE', key).ok
        end
        types[key] = found
      end
      if found ~= 'none' and found ~= rule.type then return { 'WRONGTYPE', key, found } end
    end
    if name == 'HINCRBY' and not_countable(key, args[at + 3], args[at + 4]) then return { 'COUNT', key } end
    if name == 'XTRIM' and not args[at + 3]:match('^%d+%-%d+$') then return { 'PLAN', tostring(at) } end
    at = at + 3 + count
  end
  return nil
end

local function write_plan(keys, args, first)
  local at = first
  while at <= #args do
    local name, key, count = args[at], keys[tonumber(args[at + 1])], tonumber(args[at + 2])
    if name == 'XTRIM' then
      redis.call('XTRIM', key, 'MINID', args[at + 3])
    elseif count == 0 then
      redis.call(name, key)
    else
      for from = 0, count - 1, CHUNK do
        local to = math.min(from + CHUNK, count) - 1
        redis.call(name, key, unpack(args, at + 3 + from, at + 3 + to))
      end
    end
    at = at + 3 + count
  end
end

-- Nil if an operation may follow this one, else the refusal.
local function not_last(keys, seq, tip, account_buckets, transaction_buckets)
  local found = redis.call('HMGET', keys[META], 'seq', 'tip', 'account_buckets', 'transaction_buckets')
  if found[1] ~= seq then return { 'SEQ', found[1] or '' } end
  if found[2] ~= tip then return { 'TIP', found[2] or '' } end
  if found[3] ~= account_buckets or found[4] ~= transaction_buckets then
    return { 'BUCKETS', found[3] or '', found[4] or '' }
  end
  return nil
end

-- Whether a decimal number without leading zeros is larger than another.
local function larger(a, b)
  return #a > #b or (#a == #b and a > b)
end

-- Nil if the outbox takes an entry after <epoch>-<seq>, else the refusal.
local function not_growing(key, epoch, seq)
  local found = redis.call('TYPE', key).ok
  if found == 'none' then return nil end
  if found ~= 'stream' then return { 'WRONGTYPE', key, found } end
  local info, last = redis.call('XINFO', 'STREAM', key), '0-0'
  for at = 1, #info, 2 do
    if info[at] == 'last-generated-id' then last = info[at + 1] end
  end
  local last_epoch, last_seq = last:match('^(%d+)-(%d+)$')
  if larger(last_epoch, epoch) or (last_epoch == epoch and larger(last_seq, seq)) then
    return { 'OUTBOX', 'an entry after ' .. epoch .. '-' .. seq .. ' does not come after ' .. last }
  end
  return nil
end

-- Whether a transaction may be opened whose writes follow an operation, or are a part of a restore. The caller watches
-- fence, meta and outbox from before this call on, so EXEC does nothing if one of them has changed since.
-- args: epoch, state; for an operation also the last one's seq and tip, and the numbers of buckets (accounts,
-- transactions).
local function guard(keys, args)
  local refusal = fenced(keys, args[1]) or wrong_state(keys, args[2])
  if refusal then return refusal end
  local fence = redis.call('GET', keys[FENCE])
  if fence ~= args[1] then return { 'FENCED', fence or '', '' } end
  if #args == 2 then return { 'OK' } end
  refusal = not_last(keys, args[3], args[4], args[5], args[6]) or not_growing(keys[OUTBOX], args[1], args[3])
  if refusal then return refusal end
  if not_countable(keys[META], 'accounts', '0') then return { 'COUNT', keys[META] } end
  return { 'OK' }
end

-- A write of a transaction failed, since another program destroyed its key: nobody reads on. args: epoch.
local function damage(keys, args)
  local refusal = fenced(keys, args[1]) or wrong_state(keys, 'ready')
  if refusal then return refusal end
  redis.call('HSET', keys[META], 'state', 'damaged')
  return { 'OK' }
end

-- An operation of the chain that is not a block: state and outbox entry together.
-- args: epoch, expected seq, expected tip, numbers of buckets that the plan was made for (accounts, transactions), id of
-- the entry, number of its fields' parts, the parts, the plan.
local function step(keys, args)
  local refusal = fenced(keys, args[1]) or wrong_state(keys, 'ready')
    or not_last(keys, args[2], args[3], args[4], args[5])
  if refusal then return refusal end
  local parts = tonumber(args[7])
  if not parts or parts < 2 or parts % 2 ~= 0 or parts > CHUNK or 7 + parts > #args then return { 'PLAN', '7' } end
  refusal = faulty_plan(keys, args, 8 + parts)
  if refusal then return refusal end
  -- The only write that may still fail (an id that does not grow) comes first, when there is nothing to undo.
  local added = redis.pcall('XADD', keys[OUTBOX], args[6], unpack(args, 8, 7 + parts))
  if type(added) == 'table' and added.err then return { 'OUTBOX', added.err } end
  write_plan(keys, args, 8 + parts)
  return { 'OK' }
end

-- Any other change by the owner: the state of a restore, a trim. args: epoch, allowed states, the plan.
local function write(keys, args)
  local refusal = fenced(keys, args[1]) or wrong_state(keys, args[2]) or faulty_plan(keys, args, 3)
  if refusal then return refusal end
  write_plan(keys, args, 3)
  return { 'OK' }
end

-- An entry of the outbox that a restore brings back: durable already, kept for a slow tier that is put back to an older
-- state. Entries come in their order. args: epoch, id of the entry, its fields' parts.
local function load_entry(keys, args)
  local refusal = fenced(keys, args[1]) or wrong_state(keys, 'restoring')
  if refusal then return refusal end
  if #args < 4 or #args % 2 ~= 0 or #args > CHUNK then return { 'PLAN', '3' } end
  local added = redis.pcall('XADD', keys[OUTBOX], args[2], unpack(args, 3))
  if type(added) == 'table' and added.err then return { 'OUTBOX', added.err } end
  return { 'OK' }
end

-- The chain has no state from now on, and no outbox. args: epoch, format version.
local function begin_clean(keys, args)
  local refusal = fenced(keys, args[1])
  if refusal then return refusal end
  redis.call('UNLINK', keys[OUTBOX], keys[META])
  redis.call('HSET', keys[META], 'format', args[2], 'state', 'cleaning')
  return { 'OK' }
end

-- Removes keys of the chain while it is being cleaned. args: epoch, prefix of the chain's keys.
local function clean(keys, args)
  local refusal = fenced(keys, args[1]) or wrong_state(keys, 'cleaning')
  if refusal then return refusal end
  for at = FENCE + 1, #keys do
    local key = keys[at]
    if key:sub(1, #args[2]) ~= args[2] or key == keys[OWNER] or key == keys[META] or key == keys[FENCE] then
      return { 'PLAN', key }
    end
  end
  for from = FENCE + 1, #keys, CHUNK do
    redis.call('UNLINK', unpack(keys, from, math.min(from + CHUNK - 1, #keys)))
  end
  return { 'OK' }
end

-- A block's id at a height, the beginning of its undo record, and the end of its body, its checksum; nil where no block is
-- kept. `names`: what all names of keys begin with.
local function standing(names, heights, height)
  local id = redis.call('HGET', heights, height)
  if not id then return nil end
  local undo = redis.call('GETRANGE', names .. 'u:' .. height, 0, UNDO_HEAD_BYTES - 1)
  return id, undo, redis.call('GETRANGE', names .. 'b:' .. id, -SUM_BYTES, -1)
end

-- Reads of a plan that depend on what they find, so that keys cannot name all of it. Each answers several values, all of
-- them false where no block is kept, or the chain has no such transaction.
local READS = {
  -- A block's id and its body's checksum. key: the heights. word: height.
  ID = function(names, key, height)
    local id = redis.call('HGET', key, height)
    if not id then return { false, false } end
    return { id, redis.call('GETRANGE', names .. 'b:' .. id, -SUM_BYTES, -1) }
  end,
  -- See `standing`. key: the heights. word: height.
  STANDS = function(names, key, height)
    local id, undo, sum = standing(names, key, height)
    if not id then return { false, false, false } end
    return { id, undo, sum }
  end,
  -- A transaction's height, and what stands there. key: its bucket. word: its id.
  LOCATE = function(names, key, transaction)
    local height = redis.call('HGET', key, transaction)
    if not height then return { false, false, false, false } end
    local id, undo, sum = standing(names, names .. 'heights', height)
    if not id then return { height, false, false, false } end
    return { height, id, undo, sum }
  end,
}

-- Reads at one point of the chain's history. args: a plan of reads, in the form of a plan of writes: plain commands, and
-- those above. Answers all fields of meta, then one answer a plain read. (MULTI would do, but Redis refuses even reads in
-- it while its memory is full.)
local function read(keys, args)
  local answers = { redis.call('HGETALL', keys[META]) }
  local names = keys[META]:sub(1, -#'meta' - 1)
  local at = 1
  while at <= #args do
    local name, key, count = args[at], keys[tonumber(args[at + 1])], tonumber(args[at + 2])
    if READS[name] then
      for _, answer in ipairs(READS[name](names, key, args[at + 3])) do answers[#answers + 1] = answer end
    else
      answers[#answers + 1] = redis.call(name, key, unpack(args, at + 3, at + 2 + count))
    end
    at = at + 3 + count
  end
  return answers
end

-- Takes the chain if its owner is still as the caller saw it.
-- args: epoch and heartbeat seen ('' if there was no owner), new epoch, host, pid, since.
local function claim(keys, args)
  local found = redis.call('HMGET', keys[OWNER], 'epoch', 'heartbeat')
  local epoch, heartbeat = found[1] or '', found[2] or ''
  if epoch ~= args[1] or heartbeat ~= args[2] or not larger(args[3], epoch) then
    return { 'FENCED', epoch, '' }
  end
  redis.call('HSET', keys[OWNER], 'epoch', args[3], 'heartbeat', '0', 'released', '0', 'host', args[4], 'pid', args[5],
    'since_ms', args[6])
  redis.call('SET', keys[FENCE], args[3])
  return { 'OK' }
end

-- args: epoch.
local function heartbeat(keys, args)
  local refusal = fenced(keys, args[1])
  if refusal then return refusal end
  if not_countable(keys[OWNER], 'heartbeat', '1') then return { 'COUNT', keys[OWNER] } end
  redis.call('HINCRBY', keys[OWNER], 'heartbeat', '1')
  return { 'OK' }
end

-- args: epoch.
local function release(keys, args)
  local refusal = fenced(keys, args[1])
  if refusal then return refusal end
  redis.call('HSET', keys[OWNER], 'released', '1')
  redis.call('SET', keys[FENCE], '')
  return { 'OK' }
end

-- Without 'allow-oom' Redis refuses a call whole, before it starts, while its memory is full. Taking a block back,
-- trimming, cleaning and ownership must work then too.
redis.register_function('forebay_v1_write', write)
redis.register_function('forebay_v1_load_entry', load_entry)

redis.register_function({ function_name = 'forebay_v1_read', callback = read, flags = { 'no-writes' } })
redis.register_function({ function_name = 'forebay_v1_guard', callback = guard, flags = { 'no-writes' } })

local function register_for_full_memory(name, callback)
  redis.register_function({ function_name = name, callback = callback, flags = { 'allow-oom' } })
end

register_for_full_memory('forebay_v1_step_back', step)
register_for_full_memory('forebay_v1_damage', damage)
register_for_full_memory('forebay_v1_trim', write)
register_for_full_memory('forebay_v1_begin_clean', begin_clean)
register_for_full_memory('forebay_v1_clean', clean)
register_for_full_memory('forebay_v1_claim', claim)
register_for_full_memory('forebay_v1_heartbeat', heartbeat)
register_for_full_memory('forebay_v1_release', release)

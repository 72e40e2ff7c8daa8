-- For the reader role, beside the tables that RISE tools know: the write log with ids as they are written.

create view forebay_log.operations as
select
    o.seq,
    o.epoch,
    case when o.taken_back then 'take-back' else 'append' end as operation,
    o.from_height,
    o.to_height,
    forebay_code.unsigned_text(o.first_id) as first_block_id,
    forebay_code.unsigned_text(o.last_id) as last_block_id,
    o.to_height - o.from_height + 1 as blocks,
    o.transactions,
    o.batch_seq,
    o.attempt,
    o.started_at,
    (o.duration_us / 1000.0)::numeric(14, 3) as duration_ms
from forebay.operations o;

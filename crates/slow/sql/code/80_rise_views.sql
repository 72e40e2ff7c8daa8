-- The tables that RISE tools know, with their names and types, as views: derived from the lean tables, never stored.

create view rise.blocks as
select
    forebay_code.unsigned_text(b.id)::varchar(20) as id,
    b.height as "rowId",
    b.version,
    b.timestamp,
    b.height,
    forebay_code.unsigned_text(b.previous_block)::varchar(20) as "previousBlock",
    b.number_of_transactions as "numberOfTransactions",
    b.total_amount as "totalAmount",
    b.total_fee as "totalFee",
    b.reward,
    b.payload_length as "payloadLength",
    b.payload_hash as "payloadHash",
    b.generator_public_key as "generatorPublicKey",
    b.block_signature as "blockSignature"
from forebay.blocks b;

create view rise.trs as
select
    forebay_code.unsigned_text(t.id)::varchar(20) as id,
    (b.transactions_before + t.index + 1)::integer as "rowId",
    forebay_code.unsigned_text(b.id)::varchar(20) as "blockId",
    t.height,
    t.type,
    t.timestamp,
    t.sender_public_key as "senderPublicKey",
    (forebay_code.unsigned_text(t.sender) || c.address_suffix)::varchar(22) as "senderId",
    (forebay_code.unsigned_text(t.recipient) || c.address_suffix)::varchar(22) as "recipientId",
    t.amount,
    t.fee,
    t.signature,
    t.second_signature as "signSignature",
    t.requester_public_key as "requesterPublicKey",
    (
        select string_agg(encode(substring(t.signatures from 64 * i + 1 for 64), 'hex'), ',' order by i)
        from generate_series(0, length(t.signatures) / 64 - 1) i
    ) as signatures
from forebay.transactions t
join forebay.blocks b on b.height = t.height
cross join forebay.chain c;

create view rise.signatures as
select forebay_code.unsigned_text(t.id)::varchar(20) as "transactionId", t.asset as "publicKey"
from forebay.transactions t where t.type = 1;

create view rise.delegates as
select forebay_code.unsigned_text(t.id)::varchar(20) as "transactionId", encode(t.asset, 'escape')::varchar(20) as username
from forebay.transactions t where t.type = 2;

create view rise.votes as
select
    forebay_code.unsigned_text(t.id)::varchar(20) as "transactionId",
    (
        select string_agg(encode(substring(t.asset from 65 * i + 1 for 65), 'escape'), ',' order by i)
        from generate_series(0, length(t.asset) / 65 - 1) i
    ) as votes
from forebay.transactions t where t.type = 3;

create view rise.multisignatures as
select
    forebay_code.unsigned_text(t.id)::varchar(20) as "transactionId",
    get_byte(t.asset, 0) as min,
    get_byte(t.asset, 1) as lifetime,
    (
        select string_agg(encode(substring(t.asset from 65 * i + 3 for 65), 'escape'), ',' order by i)
        from generate_series(0, (length(t.asset) - 2) / 65 - 1) i
    ) as keysgroup
from forebay.transactions t where t.type = 4;

-- The unconfirmed columns equal the confirmed ones after a block; "u_secondSignature" is 0 always.
create view forebay_code.keyed_accounts as
select
    a.address as key,
    d.username::varchar(20) as username,
    (d.address is not null)::integer::smallint as "isDelegate",
    (d.address is not null)::integer::smallint as "u_isDelegate",
    (a.second_public_key is not null)::integer::smallint as "secondSignature",
    0::smallint as "u_secondSignature",
    d.username::varchar(20) as "u_username",
    (forebay_code.unsigned_text(a.address) || c.address_suffix)::varchar(22) as address,
    a.public_key as "publicKey",
    a.second_public_key as "secondPublicKey",
    a.balance,
    a.balance as u_balance,
    coalesce(d.vote, 0) as vote,
    0::bigint as rate,
    null::text as delegates,
    null::text as u_delegates,
    null::text as multisignatures,
    null::text as u_multisignatures,
    a.multimin::bigint as multimin,
    a.multimin::bigint as u_multimin,
    a.multilifetime::bigint as multilifetime,
    a.multilifetime::bigint as u_multilifetime,
    forebay_code.unsigned_text(b.id)::varchar(20) as "blockId",
    0::smallint as nameexist,
    0::smallint as u_nameexist,
    a.produced_blocks as producedblocks,
    a.missed_blocks as missedblocks,
    a.fees,
    a.rewards,
    (a.paid_height is null)::integer::smallint as virgin,
    coalesce(d.votes_weight, 0) as "votesWeight",
    coalesce(d.missed_in_a_row, 0) as cmb
from forebay.accounts a
cross join forebay.chain c
left join forebay.delegates d on d.address = a.address
left join forebay.blocks b on b.height = a.touched_height;

create view rise.mem_accounts as
select
    username, "isDelegate", "u_isDelegate", "secondSignature", "u_secondSignature", "u_username", address, "publicKey",
    "secondPublicKey", balance, u_balance, vote, rate, delegates, u_delegates, multisignatures, u_multisignatures,
    multimin, u_multimin, multilifetime, u_multilifetime, "blockId", nameexist, u_nameexist, producedblocks, missedblocks,
    fees, rewards, virgin, "votesWeight", cmb
from forebay_code.keyed_accounts;

create view rise.mem_accounts2delegates as
select
    (forebay_code.unsigned_text(v.voter) || c.address_suffix)::varchar(22) as "accountId",
    encode(d.public_key, 'hex')::varchar(64) as "dependentId"
from forebay.votes v
join forebay.delegates d on d.address = v.delegate
cross join forebay.chain c;

create view rise.mem_accounts2u_delegates as
select * from rise.mem_accounts2delegates;

create view rise.mem_accounts2multisignatures as
select
    (forebay_code.unsigned_text(m.account) || c.address_suffix)::varchar(22) as "accountId",
    encode(m.public_key, 'hex')::varchar(64) as "dependentId"
from forebay.multisignature_members m
cross join forebay.chain c;

create view rise.mem_accounts2u_multisignatures as
select * from rise.mem_accounts2multisignatures;

create view rise.rounds_fees as
select
    b.height,
    r.timestamp,
    r.fee_share + case when b.height = r.height then r.fee_remainder else 0 end as fees,
    b.generator_public_key as "publicKey"
from forebay.rounds r
cross join forebay.chain c
join forebay.blocks b on b.height between r.height - c.delegates_per_round + 1 and r.height;

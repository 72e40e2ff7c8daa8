-- Single rows of the views by their text key. A condition on the text reads the whole view, because the tables' indexes are
-- of numbers; these find the number first. They run as the owner, since only they may look into the tables.

create function rise.block_by_id(id text) returns setof rise.blocks
language sql stable security definer set search_path = forebay, forebay_code, pg_temp as $$
    select v.* from forebay.blocks b join rise.blocks v on v.height = b.height
    where b.id = forebay_code.unsigned_bits(block_by_id.id) and v.id = block_by_id.id
$$;

create function rise.tr_by_id(id text) returns setof rise.trs
language sql stable security definer set search_path = forebay, forebay_code, pg_temp as $$
    select v.* from forebay.transactions t join rise.trs v on v.height = t.height
    where t.id = forebay_code.unsigned_bits(tr_by_id.id) and v.id = tr_by_id.id
$$;

create function rise.mem_account_by_address(address text) returns setof rise.mem_accounts
language sql stable security definer set search_path = forebay, forebay_code, pg_temp as $$
    select username, "isDelegate", "u_isDelegate", "secondSignature", "u_secondSignature", "u_username", k.address,
        "publicKey", "secondPublicKey", balance, u_balance, vote, rate, delegates, u_delegates, multisignatures,
        u_multisignatures, multimin, u_multimin, multilifetime, u_multilifetime, "blockId", nameexist, u_nameexist,
        producedblocks, missedblocks, fees, rewards, virgin, "votesWeight", cmb
    from forebay_code.keyed_accounts k
    where k.key = forebay_code.unsigned_bits(left(mem_account_by_address.address, -1))
        and k.address = mem_account_by_address.address
$$;

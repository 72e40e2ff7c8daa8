-- For lists. Transfers are most of all transactions: the other types are found by an index that they alone are in.
create index transactions_rare_types on forebay.transactions (type, height, index) where type <> 0;
-- The newest transactions by their own time, over all accounts. It grows at its right edge.
create index transactions_timestamp on forebay.transactions (timestamp);
-- The groups that a key is a member of.
create index multisignature_members_key on forebay.multisignature_members (public_key);

-- How many votes an account has now, so that the many that have none need no look at `votes` when their balances move.
alter table forebay.accounts add column votes smallint not null default 0;

update forebay.accounts a set votes = v.number
from (select voter, count(*) as number from forebay.votes group by voter) v
where a.address = v.voter;

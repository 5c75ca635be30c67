-- Own version: the transaction that writes holds every row already; what writes nothing here begins it. So keys that
-- nobody has used need no row before they are claimed.
insert into staffa_keys (key) select null where false;

select given.value
from json_each(:keys) as given
where not exists (select 1 from staffa_keys as held where held.key = given.value)

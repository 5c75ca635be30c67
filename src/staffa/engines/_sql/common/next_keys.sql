select max(key), count(*) from (select key from staffa_keys where key > :after order by key limit :limit) as next

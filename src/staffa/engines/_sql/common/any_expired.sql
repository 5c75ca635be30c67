select exists (select 1 from staffa_producers where expired_at is not null)

-- The most that all attempts of a hold's task may cost together, in nano-USD; null: no bound.
alter table holds add max_cost bigint check (max_cost > 0);

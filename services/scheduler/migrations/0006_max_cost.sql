-- The most that all attempts of a task may cost together, in nano-USD; null: no bound.
alter table tasks add max_cost_nanos bigint check (max_cost_nanos > 0);

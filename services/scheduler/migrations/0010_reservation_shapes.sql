-- Reservations of so many GPUs on one node each.

-- 0: wherever they lie.
alter table reservations add column per_node int not null default 0
  check (per_node >= 0 and (per_node = 0 or gpus % per_node = 0));

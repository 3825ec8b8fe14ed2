-- What organisations, and projects within theirs, are due. Who has no row has weight 1, no guarantee and no limit.

create table queues (
  org_id uuid not null,
  -- The organisation's own row has its uuid here too, as a project's would not: ids are unique over all kinds.
  project_id uuid not null,
  weight int not null check (weight between 1 and 1000000),
  guaranteed_gpus int not null check (guaranteed_gpus >= 0),
  limit_gpus int check (limit_gpus >= guaranteed_gpus),
  revision bigint not null default 1,
  updated_ms bigint not null,
  primary key (org_id, project_id)
);
create unique index queues_by_project on queues (project_id);

-- The GPUs that a queue holds are counted under its row's lock before a lease is written (I7).
create index allocations_held on allocations (org_id, project_id) where released_ms is null;

alter table queues enable row level security;
alter table queues force row level security;
create policy tenant on queues using (tenant.sees(org_id, project_id));

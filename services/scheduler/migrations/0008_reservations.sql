-- GPUs kept for an organisation, or one of its projects, for a time.

create table reservations (
  id uuid primary key,
  org_id uuid not null,
  -- The organisation's uuid where it is for all its projects.
  project_id uuid not null,
  display_name text not null,
  gpus int not null check (gpus between 1 and 1000000),
  -- None: any.
  models text[] not null,
  start_ms bigint not null,
  end_ms bigint not null check (end_ms > start_ms),
  creator text not null,
  revision bigint not null default 1,
  created_ms bigint not null,
  updated_ms bigint not null
);
create index reservations_by_end on reservations (end_ms);
create index reservations_by_org on reservations (org_id, start_ms, id);

alter table reservations enable row level security;
alter table reservations force row level security;
create policy tenant on reservations using (tenant.sees(org_id, project_id));

-- Tasks, their attempts, the fleet and what of it is leased. Times are milliseconds since the epoch, in the
-- database's time, given by the caller's clock.

create table tasks (
  id uuid primary key,
  org_id uuid not null,
  project_id uuid not null,
  display_name text not null,
  labels jsonb not null,
  spec bytea not null,
  runtime text not null check (runtime in ('container', 'process')),
  priority int not null,
  gpu_count int not null check (gpu_count between 0 and 1024),
  gpu_models text[] not null,
  gpu_min_memory_mib bigint not null check (gpu_min_memory_mib >= 0),
  simulated_ok boolean not null,
  cpu_millis bigint not null check (cpu_millis >= 0),
  memory_mib bigint not null check (memory_mib >= 0),
  disk_mib bigint not null check (disk_mib >= 0),
  max_retries int not null,
  retry_on text[] not null,
  max_runtime_ms bigint not null,
  stop_grace_ms bigint not null,
  state text not null,
  prev_state text,
  epoch bigint not null default 0,
  revision bigint not null default 1,
  queue_reason text,
  status_message text not null default '',
  exit_class text,
  exit_code int,
  attempt_count int not null default 0,
  retries int not null default 0,
  free_requeues int not null default 0,
  not_before_ms bigint not null default 0,
  excluded_gpus uuid[] not null default '{}',
  waiting_for int not null default 0 check (waiting_for >= 0),
  cancel_requested boolean not null default false,
  attempt_id uuid,
  array_count int check (array_count between 1 and 1000000),
  array_parallelism int,
  idx_pending int4multirange,
  idx_leased int4multirange,
  idx_succeeded int4multirange,
  idx_failed int4multirange,
  idx_cancelled int4multirange,
  progress bytea,
  manifest_digest text,
  traceparent text not null,
  created_ms bigint not null,
  submitted_ms bigint,
  started_ms bigint,
  ended_ms bigint,
  check ((array_count is null) = (idx_pending is null)),
  constraint task_states check ((coalesce(prev_state, ''), state) in (
    ('', 'DRAFT'), ('', 'QUEUED'),
    ('DRAFT', 'QUEUED'), ('DRAFT', 'CANCELLED'),
    ('QUEUED', 'SCHEDULED'), ('QUEUED', 'FAILED'), ('QUEUED', 'CANCELLED'),
    ('SCHEDULED', 'STARTING'), ('SCHEDULED', 'STOPPING'), ('SCHEDULED', 'QUEUED'), ('SCHEDULED', 'FAILED'), ('SCHEDULED', 'CANCELLED'),
    ('STARTING', 'RUNNING'), ('STARTING', 'STOPPING'), ('STARTING', 'FINALIZING'), ('STARTING', 'QUEUED'), ('STARTING', 'FAILED'), ('STARTING', 'CANCELLED'),
    ('RUNNING', 'STOPPING'), ('RUNNING', 'FINALIZING'), ('RUNNING', 'QUEUED'), ('RUNNING', 'SUCCEEDED'), ('RUNNING', 'FAILED'), ('RUNNING', 'CANCELLED'),
    ('STOPPING', 'FINALIZING'), ('STOPPING', 'QUEUED'), ('STOPPING', 'SUCCEEDED'), ('STOPPING', 'FAILED'), ('STOPPING', 'CANCELLED'),
    ('FINALIZING', 'SUCCEEDED'), ('FINALIZING', 'FAILED'), ('FINALIZING', 'CANCELLED'), ('FINALIZING', 'QUEUED')
  ))
);
create index tasks_by_project on tasks (project_id, created_ms desc, id desc);
create index tasks_live on tasks (id) where state not in ('DRAFT', 'SUCCEEDED', 'FAILED', 'CANCELLED');

create table task_dependencies (
  task_id uuid not null references tasks (id),
  parent_id uuid not null references tasks (id),
  org_id uuid not null,
  project_id uuid not null,
  condition text not null check (condition in ('SUCCEEDED', 'FAILED', 'ENDED')),
  resolved boolean not null default false,
  primary key (task_id, parent_id)
);
create index task_dependencies_open on task_dependencies (parent_id) where not resolved;

-- Elements of arrays that failed and have retries left, and those that used some.
create table array_elements (
  task_id uuid not null references tasks (id),
  index int not null,
  org_id uuid not null,
  project_id uuid not null,
  retries int not null,
  primary key (task_id, index)
);

create table nodes (
  id uuid primary key,
  display_name text not null,
  worker_version text not null,
  boot_id text not null,
  state text not null check (state in ('READY', 'DRAINING', 'LOST')),
  session_epoch bigint not null default 0,
  replica text not null,
  cpu_millis bigint not null,
  memory_mib bigint not null,
  disk_mib bigint not null,
  runtimes text[] not null,
  lease_until_ms bigint not null,
  last_seen_ms bigint not null
);

create table gpus (
  id uuid primary key,
  node_id uuid not null references nodes (id),
  index int not null,
  uuid text not null,
  model text not null,
  memory_mib bigint not null,
  simulated boolean not null,
  present boolean not null default true,
  state text not null check (state in ('IDLE', 'LEASED', 'SANITISING', 'UNKNOWN', 'QUARANTINED')),
  attempt_id uuid,
  last_org uuid,
  unique (node_id, uuid),
  check ((state in ('LEASED', 'UNKNOWN')) or attempt_id is null)
);

create table attempts (
  id uuid primary key,
  org_id uuid not null,
  project_id uuid not null,
  task_id uuid not null references tasks (id),
  node_id uuid not null references nodes (id),
  epoch bigint not null,
  leader_epoch bigint not null,
  number int not null,
  state text not null,
  prev_state text,
  cpu_millis bigint not null,
  memory_mib bigint not null,
  disk_mib bigint not null,
  slots int not null default 1,
  elements int4multirange,
  lease_ms bigint not null,
  funded_ms bigint,
  hold_n int not null default 0,
  running_ms bigint,
  stop_class text,
  stop_ms bigint,
  stop_grace_ms bigint not null,
  stop_delivered boolean not null default false,
  gone_ms bigint,
  ended_ms bigint,
  exit_class text,
  exit_code int,
  message text not null default '',
  isolation text not null default '',
  manifest_digest text,
  log_artifact text,
  element_results jsonb,
  folded boolean not null default true,
  traceparent text not null,
  constraint attempt_states check ((coalesce(prev_state, ''), state) in (
    ('', 'LEASED'),
    ('LEASED', 'STARTING'), ('LEASED', 'STOPPING'), ('LEASED', 'ENDED'),
    ('STARTING', 'RUNNING'), ('STARTING', 'STOPPING'), ('STARTING', 'FINALIZING'), ('STARTING', 'ENDED'),
    ('RUNNING', 'STOPPING'), ('RUNNING', 'FINALIZING'), ('RUNNING', 'ENDED'),
    ('STOPPING', 'FINALIZING'), ('STOPPING', 'ENDED'),
    ('FINALIZING', 'ENDED')
  ))
);
create index attempts_by_task on attempts (task_id, epoch, id);
create index attempts_live on attempts (node_id) where state <> 'ENDED';
create index attempts_unfolded on attempts (task_id) where not folded;

-- One row a leased GPU: usage is cut from it. At most one unreleased row a GPU (I5).
create table allocations (
  attempt_id uuid not null references attempts (id),
  member int not null default 0,
  gpu_id uuid not null references gpus (id),
  org_id uuid not null,
  project_id uuid not null,
  task_id uuid not null,
  sku text not null,
  price_version int not null,
  simulated boolean not null,
  from_ms bigint not null,
  cut_ms bigint not null,
  seq int not null default 0,
  released_ms bigint,
  primary key (attempt_id, member, gpu_id),
  check (cut_ms >= from_ms and (released_ms is null or released_ms = cut_ms))
);
create unique index allocations_unreleased on allocations (gpu_id) where released_ms is null;
create index allocations_by_gpu on allocations (gpu_id, released_ms);
create index allocations_open on allocations (cut_ms) where released_ms is null;

-- Tenants see their own rows only; nodes and GPUs are the platform's.
alter table tasks enable row level security;
alter table tasks force row level security;
create policy tenant on tasks using (tenant.sees(org_id, project_id));
alter table task_dependencies enable row level security;
alter table task_dependencies force row level security;
create policy tenant on task_dependencies using (tenant.sees(org_id, project_id));
alter table array_elements enable row level security;
alter table array_elements force row level security;
create policy tenant on array_elements using (tenant.sees(org_id, project_id));
alter table attempts enable row level security;
alter table attempts force row level security;
create policy tenant on attempts using (tenant.sees(org_id, project_id));
alter table allocations enable row level security;
alter table allocations force row level security;
create policy tenant on allocations using (tenant.sees(org_id, project_id));

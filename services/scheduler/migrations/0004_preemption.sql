-- Preemption, lineages of resubmissions, decayed usage, and queues of users and GPU models.

alter table tasks
  add preemptible boolean not null default false,
  -- Who submitted it: the user of its queue.
  add principal text not null default '',
  -- The same for tasks that run the same thing for the same user; none without GPUs.
  add lineage uuid,
  add preemptions int not null default 0,
  -- What the first lease took over from tasks of its lineage that had ended without success.
  add carried_gpu_ms bigint not null default 0,
  add carried_preemptions int not null default 0,
  -- The task that took this one's service over.
  add resumed_by uuid;
create index tasks_unfinished on tasks (lineage, ended_ms)
  where lineage is not null and resumed_by is null and attempt_count > 0 and state in ('FAILED', 'CANCELLED');

-- What the plan needs of a running attempt, as it was at the lease: its task need not be read again.
alter table attempts
  add preemptible boolean not null default false,
  add principal text not null default '',
  add priority int not null default 0,
  add submitted_ms bigint,
  add max_runtime_ms bigint,
  -- Service and preemptions of its lineage before it.
  add attained_gpu_ms bigint not null default 0,
  add preemptions int not null default 0,
  -- When it last told of a saved checkpoint.
  add saved_ms bigint;
create index attempts_saved on attempts (saved_ms) where state <> 'ENDED' and saved_ms is not null;

-- A GPU that a preemption frees is for one task until a time.
alter table gpus
  add reserved_task_id uuid,
  add reserved_until_ms bigint,
  add constraint gpus_reserved check ((reserved_task_id is null) = (reserved_until_ms is null));
create index gpus_by_reservation on gpus (reserved_task_id) where reserved_task_id is not null;

-- Service is charged to its user once: up to where it has been charged. Null: from the start.
alter table allocations
  add principal text not null default '',
  add charged_ms bigint;
update allocations set charged_ms = cut_ms;
create index allocations_uncharged on allocations (attempt_id) where cut_ms > coalesce(charged_ms, from_ms);

-- GPU-milliseconds that each user has had, older ones counting less, as of at_ms.
create table past_usage (
  org_id uuid not null,
  project_id uuid not null,
  principal text not null,
  gpu_ms double precision not null check (gpu_ms >= 0),
  at_ms bigint not null,
  primary key (org_id, project_id, principal)
);
alter table past_usage enable row level security;
alter table past_usage force row level security;
create policy tenant on past_usage using (tenant.sees(org_id, project_id));

-- A row with a principal is that user's queue in the project. Models: {"NVIDIA H200": {"guaranteed": 2, "limit": 4}}.
alter table queues
  add principal text not null default '',
  add models jsonb not null default '{}',
  drop constraint queues_pkey,
  add primary key (org_id, project_id, principal),
  add constraint queues_of_users check (principal = '' or project_id <> org_id);
drop index queues_by_project;
create unique index queues_by_project on queues (project_id, principal);

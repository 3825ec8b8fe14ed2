-- Gangs: one attempt with several members, each with a node, GPUs and an end of its own. One member is the same thing:
-- every attempt of before is its own member 0.

alter table tasks add column replicas int not null default 1 check (replicas between 1 and 1024);
-- {"within": "node" | "nvlink" | "rack", "spreadOver": "node" | "rack"}, each only where it is wished.
alter table tasks add column topology jsonb not null default '{}';
alter table tasks add constraint tasks_gang_or_array check (array_count is null or replicas = 1);

-- Places that hold the node, by kind, as its worker says.
alter table nodes add column topology jsonb not null default '{}';

-- The rank of the member that holds the GPU.
alter table gpus add column member int not null default 0;

alter table attempts add column member int not null default 0 check (member between 0 and 1023);
-- The member whose end is the attempt's: the first that was told and is neither ok nor gang_stopped.
alter table attempts add column cause boolean not null default false;
alter table allocations drop constraint allocations_attempt_id_fkey;
alter table attempts drop constraint attempts_pkey;
alter table attempts add primary key (id, member);
create unique index attempts_one_cause on attempts (id) where cause;
alter table allocations add constraint allocations_attempt_member_fkey
  foreign key (attempt_id, member) references attempts (id, member);

-- What the leader last said of itself, for every replica to tell. Figures are {"plans": 12, …}.
create table status (
  only_one boolean primary key default true check (only_one),
  leader text not null,
  leader_epoch bigint not null,
  since_ms bigint not null,
  at_ms bigint not null,
  figures jsonb not null
);

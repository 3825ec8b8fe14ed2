-- The policies by which the fleet was planned: the newest is the one that is planned by. The platform's, no tenant's.

create table policies (
  revision bigint primary key check (revision > 0),
  -- As it was given, YAML: what it leaves out has the shipped value of the version that reads it.
  source text not null,
  origin text not null check (origin in ('file', 'call')),
  updated_by text not null,
  created_ms bigint not null
);

-- What was last seen of the policy file of the leader. Its one row is the lock of every change of the policy.
create table policy_file (
  only_one boolean primary key default true check (only_one),
  -- Digest of the content that was last taken or refused: the same content is looked at once.
  sha256 text not null default '',
  -- Why it was refused; empty: it was not.
  problem text not null default '',
  seen_ms bigint not null default 0
);
insert into policy_file default values;

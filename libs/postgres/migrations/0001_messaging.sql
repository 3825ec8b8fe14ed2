-- What every service has in its own schema: outbox and event log, inbox, leadership, request ids.
-- Times are milliseconds since the epoch, in the database's time, given by the caller's clock.

-- Events of committed and uncommitted transactions, before the relay has given them a seq.
-- `id` orders what one relay pass sees; it has gaps and late arrivals, so nobody ever asks for id > last.
CREATE TABLE outbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  event_id uuid NOT NULL,
  type text NOT NULL,
  aggregate text NOT NULL,
  aggregate_revision bigint NOT NULL,
  occurred_ms bigint NOT NULL,
  org_id uuid,
  project_id uuid,
  traceparent text NOT NULL DEFAULT '',
  payload bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- The log: committed events in their final order, seq = 1, 2, 3, … without a gap.
CREATE TABLE event_log (
  seq bigint PRIMARY KEY,
  event_id uuid NOT NULL,
  type text NOT NULL,
  aggregate text NOT NULL,
  aggregate_revision bigint NOT NULL,
  occurred_ms bigint NOT NULL,
  org_id uuid,
  project_id uuid,
  traceparent text NOT NULL,
  payload bytea NOT NULL
);

-- One row. head_seq: last given; published_seq: last acknowledged by NATS; trimmed_seq: last removed by retention.
CREATE TABLE event_head (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  incarnation integer NOT NULL DEFAULT 1,
  head_seq bigint NOT NULL DEFAULT 0,
  published_seq bigint NOT NULL DEFAULT 0 CHECK (published_seq <= head_seq),
  trimmed_seq bigint NOT NULL DEFAULT 0 CHECK (trimmed_seq <= head_seq)
);
INSERT INTO event_head DEFAULT VALUES;

-- Who reads our log, and up to where it has applied: retention waits for all of them.
CREATE TABLE event_consumers (
  consumer text PRIMARY KEY,
  confirmed_seq bigint NOT NULL,
  confirmed_ms bigint NOT NULL
);

-- What we have applied of each producer, changed only in the transaction of the effect.
CREATE TABLE inbox (
  producer text PRIMARY KEY,
  incarnation integer NOT NULL,
  last_seq bigint NOT NULL
);

-- A term of leadership; every write of a leader names its epoch.
CREATE TABLE leader (
  name text PRIMARY KEY,
  epoch bigint NOT NULL,
  holder text NOT NULL,
  elected_ms bigint NOT NULL
);

-- Requests already answered: same id and body get the same answer, for 7 days.
CREATE TABLE requests (
  org_id uuid NOT NULL,
  project_id uuid NOT NULL,
  method text NOT NULL,
  request_id uuid NOT NULL,
  body_sha256 bytea NOT NULL,
  body text NOT NULL,
  response bytea NOT NULL,
  created_ms bigint NOT NULL,
  PRIMARY KEY (project_id, method, request_id)
);
CREATE INDEX requests_created_ms ON requests (created_ms);
ALTER TABLE requests ENABLE ROW LEVEL SECURITY;
ALTER TABLE requests FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON requests USING (tenant.sees(org_id, project_id));

-- The role under row-level security appends events and answers requests; the rest is not its business.
DO $$
DECLARE
  api text := regexp_replace(current_user, '_owner$', '_api');
BEGIN
  EXECUTE format('REVOKE ALL ON migrations, event_log, event_head, event_consumers, inbox, leader FROM %I', api);
  EXECUTE format('REVOKE SELECT, UPDATE, DELETE ON outbox FROM %I', api);
END $$;

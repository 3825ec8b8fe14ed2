-- Money: the price book, the ledger, holds and rated usage. Amounts are nano-units of the account's currency.

-- The price book only grows: a new price is a new version with a later valid_from.
CREATE TABLE prices (
  sku text NOT NULL,
  version integer NOT NULL CHECK (version > 0),
  currency text NOT NULL DEFAULT 'USD',
  hourly_nanos bigint NOT NULL CHECK (hourly_nanos >= 0),
  valid_from timestamptz NOT NULL,
  description text NOT NULL,
  PRIMARY KEY (sku, version),
  UNIQUE (sku, valid_from)
);
INSERT INTO prices (sku, version, hourly_nanos, valid_from, description) VALUES
  ('gpu.simulated', 1,  360000000, '2020-01-01T00:00:00Z', 'Simulated GPU (nothing is computed on it)'),
  ('gpu.generic',   1,  800000000, '2020-01-01T00:00:00Z', 'Any GPU without a price of its own'),
  ('gpu.a100',      1, 1600000000, '2020-01-01T00:00:00Z', 'NVIDIA A100'),
  ('gpu.h100',      1, 2500000000, '2020-01-01T00:00:00Z', 'NVIDIA H100'),
  ('gpu.h200',      1, 3800000000, '2020-01-01T00:00:00Z', 'NVIDIA H200');

-- One row an account; the platform's own have no organisation. Credit can never be overdrawn, holds included (I10).
CREATE TABLE accounts (
  id uuid PRIMARY KEY,
  kind text NOT NULL CHECK (kind IN ('org_credit', 'platform_revenue', 'platform_loss', 'rounding', 'grants')),
  org_id uuid,
  currency text NOT NULL,
  debits_pending bigint NOT NULL DEFAULT 0 CHECK (debits_pending >= 0),
  debits_posted bigint NOT NULL DEFAULT 0 CHECK (debits_posted >= 0),
  credits_pending bigint NOT NULL DEFAULT 0 CHECK (credits_pending >= 0),
  credits_posted bigint NOT NULL DEFAULT 0 CHECK (credits_posted >= 0),
  opened_at timestamptz NOT NULL,
  UNIQUE NULLS NOT DISTINCT (org_id, kind, currency),
  CHECK ((kind = 'org_credit') = (org_id IS NOT NULL)),
  CONSTRAINT accounts_funded CHECK (kind <> 'org_credit' OR credits_posted - debits_posted - debits_pending >= 0)
) WITH (fillfactor = 50);
INSERT INTO accounts (id, kind, currency, opened_at) VALUES
  ('00000000-0000-7000-8000-000000000001', 'platform_revenue', 'USD', '2020-01-01T00:00:00Z'),
  ('00000000-0000-7000-8000-000000000002', 'platform_loss',    'USD', '2020-01-01T00:00:00Z'),
  ('00000000-0000-7000-8000-000000000003', 'rounding',         'USD', '2020-01-01T00:00:00Z'),
  ('00000000-0000-7000-8000-000000000004', 'grants',           'USD', '2020-01-01T00:00:00Z');
ALTER TABLE accounts ENABLE ROW LEVEL SECURITY;
ALTER TABLE accounts FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON accounts USING (org_id = tenant.org());

-- The first organisation gets the starting credit; this row says which one that was.
CREATE TABLE first_organization (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  org_id uuid NOT NULL
);

-- Double entry: debit and credit in one row, never changed. A pending transfer is posted or voided once (unique index).
-- Foreign keys are left out: they would lock the hot accounts once for each row; the auditor checks them.
CREATE TABLE transfers (
  id uuid PRIMARY KEY,
  kind text NOT NULL CHECK (kind IN ('posted', 'pending', 'post', 'void')),
  code text NOT NULL CHECK (code IN ('grant', 'hold', 'release', 'charge', 'overrun')),
  debit_id uuid NOT NULL,
  credit_id uuid NOT NULL CHECK (credit_id <> debit_id),
  amount bigint NOT NULL CHECK (amount > 0),
  currency text NOT NULL,
  pending_id uuid,
  -- What it is about: the attempt of a hold or charge; the organisation of a grant.
  subject uuid NOT NULL,
  created_at timestamptz NOT NULL,
  CHECK ((kind IN ('post', 'void')) = (pending_id IS NOT NULL))
);
CREATE UNIQUE INDEX transfers_resolved_once ON transfers (pending_id) WHERE pending_id IS NOT NULL;

-- The newest epoch of the scheduler's leader that we have seen: older ones are fenced.
CREATE TABLE scheduler_leader (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  epoch bigint NOT NULL
);
INSERT INTO scheduler_leader (epoch) VALUES (0);

-- Money set aside for an attempt. While open, held − charged is the amount of the pending transfer pending_id.
CREATE TABLE holds (
  attempt_id uuid PRIMARY KEY,
  task_id uuid NOT NULL,
  org_id uuid NOT NULL,
  project_id uuid NOT NULL,
  account_id uuid NOT NULL,
  status text NOT NULL CHECK (status IN ('open', 'closed', 'voided')),
  leader_epoch bigint NOT NULL,
  -- [{sku, version, quantity}]: the pinned prices.
  items jsonb NOT NULL,
  funded_ms bigint NOT NULL CHECK (funded_ms >= 0),
  held bigint NOT NULL CHECK (held >= 0),
  charged bigint NOT NULL CHECK (charged >= 0 AND charged <= held),
  extension integer NOT NULL DEFAULT 0,
  pending_id uuid,
  opened_at timestamptz NOT NULL,
  closed_at timestamptz,
  CHECK ((status = 'open') = (closed_at IS NULL)),
  CHECK ((status = 'open' AND held > charged) = (pending_id IS NOT NULL))
) WITH (fillfactor = 70);
CREATE INDEX holds_open ON holds (attempt_id) WHERE status = 'open';
CREATE INDEX holds_open_by_task ON holds (task_id) WHERE status = 'open';
CREATE INDEX holds_by_task ON holds (task_id, attempt_id);
CREATE INDEX holds_by_project ON holds (project_id, attempt_id);
ALTER TABLE holds ENABLE ROW LEVEL SECURITY;
ALTER TABLE holds FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON holds USING (tenant.sees(org_id, project_id));

-- Attempts voided before their hold arrived: a late create must not open it.
CREATE TABLE voided_attempts (
  attempt_id uuid PRIMARY KEY,
  voided_at timestamptz NOT NULL
);

-- Rated segments, each once. Times are milliseconds since the epoch; billing times since the attempt's billing start.
CREATE TABLE usage_records (
  attempt_id uuid NOT NULL,
  member integer NOT NULL,
  gpu_id uuid NOT NULL,
  seq integer NOT NULL,
  task_id uuid NOT NULL,
  org_id uuid NOT NULL,
  project_id uuid NOT NULL,
  kind text NOT NULL CHECK (kind IN ('starting', 'billable', 'stopping', 'fault', 'sanitising', 'unknown')),
  sku text NOT NULL,
  price_version integer NOT NULL,
  start_ms bigint NOT NULL,
  end_ms bigint NOT NULL CHECK (end_ms >= start_ms),
  billing_start_ms bigint NOT NULL CHECK (billing_start_ms >= 0),
  billing_end_ms bigint NOT NULL CHECK (billing_end_ms >= billing_start_ms),
  amount bigint NOT NULL CHECK (amount >= 0),
  free_reason text CHECK (free_reason IS NULL OR amount = 0),
  simulated boolean NOT NULL,
  PRIMARY KEY (attempt_id, member, gpu_id, seq)
);
ALTER TABLE usage_records ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage_records FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON usage_records USING (tenant.sees(org_id, project_id));

-- What a task was charged so far; ended once its state is terminal.
CREATE TABLE task_costs (
  task_id uuid PRIMARY KEY,
  org_id uuid NOT NULL,
  project_id uuid NOT NULL,
  charged bigint NOT NULL CHECK (charged >= 0),
  ended boolean NOT NULL
) WITH (fillfactor = 70);
ALTER TABLE task_costs ENABLE ROW LEVEL SECURITY;
ALTER TABLE task_costs FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON task_costs USING (tenant.sees(org_id, project_id));

-- What is written is never changed; readers under row-level security only read.
REVOKE UPDATE, DELETE ON prices, transfers, usage_records, first_organization FROM billing_core;
REVOKE DELETE ON accounts, holds, task_costs, scheduler_leader FROM billing_core;
REVOKE ALL ON transfers, scheduler_leader, voided_attempts, first_organization FROM billing_api;
REVOKE INSERT, UPDATE, DELETE ON prices, accounts, holds, usage_records, task_costs FROM billing_api;

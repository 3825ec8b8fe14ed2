-- Organisations, projects, keys, worker identities, signing keys and the audit log.
-- Every tenant table carries its organisation (and project, where it belongs to one) and a forced policy.
-- Times are milliseconds since the epoch by the service's clock, which follows the database's.

CREATE TABLE organizations (
  org_id uuid PRIMARY KEY,
  display_name text NOT NULL CHECK (length(display_name) BETWEEN 1 AND 128),
  created_ms bigint NOT NULL
);

CREATE TABLE projects (
  project_id uuid PRIMARY KEY,
  org_id uuid NOT NULL REFERENCES organizations,
  display_name text NOT NULL CHECK (length(display_name) BETWEEN 1 AND 128),
  created_ms bigint NOT NULL,
  UNIQUE (org_id, project_id)
);

-- project_id is NULL where the key acts on the whole organisation. The secret itself is kept nowhere.
CREATE TABLE api_keys (
  key_id uuid PRIMARY KEY,
  org_id uuid NOT NULL REFERENCES organizations,
  project_id uuid,
  display_name text NOT NULL CHECK (length(display_name) BETWEEN 1 AND 128),
  role text NOT NULL CHECK (role IN ('platform_operator', 'org_admin', 'project_editor', 'project_viewer')),
  mac bytea NOT NULL CHECK (length(mac) = 32),
  created_by text NOT NULL,
  created_ms bigint NOT NULL,
  expires_ms bigint,
  revoked_ms bigint,
  FOREIGN KEY (org_id, project_id) REFERENCES projects (org_id, project_id),
  CHECK (project_id IS NULL OR role IN ('project_editor', 'project_viewer'))
);
CREATE INDEX api_keys_org ON api_keys (org_id, key_id);

-- Append only: see the grants below. seq counts 1, 2, 3, … in each organisation; the nil uuid is the platform itself.
CREATE TABLE audit_events (
  org_id uuid NOT NULL,
  seq bigint NOT NULL CHECK (seq > 0),
  at_ms bigint NOT NULL,
  principal text NOT NULL,
  method text NOT NULL,
  resource text NOT NULL,
  project text NOT NULL,
  request_id text NOT NULL,
  denied_calls integer NOT NULL CHECK (denied_calls >= 0),
  hash text NOT NULL CHECK (length(hash) = 64),
  PRIMARY KEY (org_id, seq)
);

-- The end of each chain. Its row lock makes the appender one at a time in an organisation.
CREATE TABLE audit_heads (
  org_id uuid PRIMARY KEY,
  seq bigint NOT NULL,
  hash text NOT NULL,
  checkpoint_number bigint NOT NULL DEFAULT 0,
  checkpoint_seq bigint NOT NULL DEFAULT 0 CHECK (checkpoint_seq <= seq)
);
CREATE INDEX audit_heads_unsigned ON audit_heads (org_id) WHERE checkpoint_seq < seq;

CREATE TABLE audit_checkpoints (
  org_id uuid NOT NULL,
  number bigint NOT NULL CHECK (number > 0),
  seq bigint NOT NULL,
  hash text NOT NULL,
  at_ms bigint NOT NULL,
  signature text NOT NULL,
  PRIMARY KEY (org_id, number)
);

-- Of the platform: no tenant, no access for the role under row-level security.
CREATE TABLE signing_keys (
  kid text PRIMARY KEY,
  public_key bytea NOT NULL CHECK (length(public_key) = 32),
  sealed_private_key bytea NOT NULL,
  created_ms bigint NOT NULL,
  signs_from_ms bigint NOT NULL,
  retired_ms bigint
);

-- A token is used once the node that used it is set; a repeat with the same public key is the same join.
CREATE TABLE worker_join_tokens (
  join_id uuid PRIMARY KEY,
  org_id uuid NOT NULL,
  mac bytea NOT NULL CHECK (length(mac) = 32),
  created_by text NOT NULL,
  created_ms bigint NOT NULL,
  expires_ms bigint NOT NULL,
  node_id uuid,
  public_key bytea CHECK (length(public_key) = 32),
  CHECK ((node_id IS NULL) = (public_key IS NULL))
);

CREATE TABLE workers (
  node_id uuid PRIMARY KEY,
  public_key bytea NOT NULL UNIQUE CHECK (length(public_key) = 32),
  display_name text NOT NULL CHECK (length(display_name) BETWEEN 1 AND 128),
  joined_ms bigint NOT NULL
);

ALTER TABLE organizations ENABLE ROW LEVEL SECURITY;
ALTER TABLE organizations FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON organizations USING (org_id = tenant.org());
ALTER TABLE projects ENABLE ROW LEVEL SECURITY;
ALTER TABLE projects FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON projects USING (tenant.sees(org_id, project_id));
ALTER TABLE api_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE api_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON api_keys USING (tenant.sees(org_id, project_id));
ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_events FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON audit_events USING (org_id = tenant.org());
ALTER TABLE audit_heads ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_heads FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON audit_heads USING (org_id = tenant.org());
ALTER TABLE audit_checkpoints ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_checkpoints FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON audit_checkpoints USING (org_id = tenant.org());
ALTER TABLE worker_join_tokens ENABLE ROW LEVEL SECURITY;
ALTER TABLE worker_join_tokens FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON worker_join_tokens USING (org_id = tenant.org() AND tenant.all_projects());

-- Nobody but the owner's migrations can change or remove what was recorded, nor a tenant's identity.
REVOKE UPDATE, DELETE ON audit_events, audit_checkpoints FROM auth_api, auth_core;
REVOKE DELETE ON audit_heads, organizations, projects, api_keys, workers FROM auth_api, auth_core;
REVOKE ALL ON signing_keys, workers FROM auth_api;
REVOKE INSERT, UPDATE, DELETE ON audit_checkpoints FROM auth_api;

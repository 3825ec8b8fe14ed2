-- Files as lists of chunks. The chunks themselves lie on disk; see src/chunks. Times are milliseconds since the epoch.

-- One random key an organisation, sealed under the master key. Destroying it makes the organisation's chunks unreadable.
CREATE TABLE data_keys (
  org_id uuid PRIMARY KEY,
  sealed bytea NOT NULL,
  created_ms bigint NOT NULL
);

-- A file on its way. It becomes an artifact of the same id, in one transaction.
CREATE TABLE uploads (
  upload_id uuid NOT NULL,
  org_id uuid NOT NULL,
  project_id uuid NOT NULL,
  artifact_id uuid NOT NULL UNIQUE,
  display_name text NOT NULL CHECK (length(display_name) BETWEEN 1 AND 1024),
  expected_sha256 text NOT NULL CHECK (expected_sha256 ~ '^([0-9a-f]{64})?$'),
  attempt text NOT NULL,
  -- Whole chunks that are on disk and listed below.
  committed_bytes bigint NOT NULL DEFAULT 0 CHECK (committed_bytes >= 0),
  -- The stream that may write; a newer stream takes over by changing it.
  writer uuid NOT NULL,
  created_ms bigint NOT NULL,
  updated_ms bigint NOT NULL,
  PRIMARY KEY (project_id, upload_id)
);
CREATE INDEX uploads_idle ON uploads (updated_ms);

CREATE TABLE artifacts (
  artifact_id uuid PRIMARY KEY,
  org_id uuid NOT NULL,
  project_id uuid NOT NULL,
  upload_id uuid NOT NULL,
  display_name text NOT NULL CHECK (length(display_name) BETWEEN 1 AND 1024),
  expected_sha256 text NOT NULL,
  attempt text NOT NULL,
  size_bytes bigint NOT NULL CHECK (size_bytes >= 0),
  sha256 text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
  created_ms bigint NOT NULL,
  UNIQUE (project_id, upload_id)
);
CREATE INDEX artifacts_newest ON artifacts (project_id, artifact_id DESC);

-- Chunk number `index` of an upload or artifact. A row here is what keeps a chunk from being collected.
CREATE TABLE artifact_chunks (
  artifact_id uuid NOT NULL,
  index integer NOT NULL CHECK (index >= 0),
  org_id uuid NOT NULL,
  project_id uuid NOT NULL,
  address bytea NOT NULL CHECK (length(address) = 32),
  size_bytes integer NOT NULL CHECK (size_bytes BETWEEN 1 AND 1048576),
  PRIMARY KEY (artifact_id, index)
);
CREATE INDEX artifact_chunks_address ON artifact_chunks (org_id, address);

-- What an attempt left, by the digest of its canonical form. Only the scheduler says which one is a task's result.
CREATE TABLE manifests (
  project_id uuid NOT NULL,
  digest text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
  org_id uuid NOT NULL,
  attempt text NOT NULL,
  files jsonb NOT NULL,
  created_ms bigint NOT NULL,
  PRIMARY KEY (project_id, digest)
);

ALTER TABLE data_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE data_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON data_keys USING (org_id = tenant.org());
ALTER TABLE uploads ENABLE ROW LEVEL SECURITY;
ALTER TABLE uploads FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON uploads USING (tenant.sees(org_id, project_id));
ALTER TABLE artifacts ENABLE ROW LEVEL SECURITY;
ALTER TABLE artifacts FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON artifacts USING (tenant.sees(org_id, project_id));
ALTER TABLE artifact_chunks ENABLE ROW LEVEL SECURITY;
ALTER TABLE artifact_chunks FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON artifact_chunks USING (tenant.sees(org_id, project_id));
ALTER TABLE manifests ENABLE ROW LEVEL SECURITY;
ALTER TABLE manifests FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON manifests USING (tenant.sees(org_id, project_id));

-- Stored files and manifests never change.
REVOKE UPDATE ON artifacts, manifests FROM storage_api, storage_core;
REVOKE UPDATE ON data_keys FROM storage_api, storage_core;

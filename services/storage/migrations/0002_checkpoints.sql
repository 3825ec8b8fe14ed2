-- Which manifests are checkpoints, and until when they are kept: their manifest and files go at expires_ms.
CREATE TABLE checkpoints (
  project_id uuid NOT NULL,
  org_id uuid NOT NULL,
  task_id uuid NOT NULL,
  -- Rank in its gang, from 0.
  member integer NOT NULL CHECK (member >= 0),
  -- Of the attempt that left it.
  epoch bigint NOT NULL CHECK (epoch >= 0),
  digest text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
  expires_ms bigint NOT NULL,
  PRIMARY KEY (project_id, task_id, member, epoch, digest)
);
CREATE INDEX checkpoints_expiring ON checkpoints (expires_ms);

ALTER TABLE checkpoints ENABLE ROW LEVEL SECURITY;
ALTER TABLE checkpoints FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON checkpoints USING (tenant.sees(org_id, project_id));

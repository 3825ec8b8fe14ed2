import type {
  AttemptStorageService,
  PutManifestRequest,
} from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { parseId } from "@fastgpu/domain/ids";
import { transaction, withTenant } from "@fastgpu/postgres/transaction";
import type { Tx } from "@fastgpu/postgres/transaction";
import type { Handler } from "@fastgpu/rpc/handlers";
import { admitWorker, requireOwnManifest } from "../admit-worker.ts";
import type { Admitted } from "../admit-worker.ts";
import { canonicalManifest } from "../manifest.ts";
import { artifactName, parseArtifactName } from "../names.ts";
import type { ProjectTenant } from "../names.ts";
import type { StorageParts } from "../parts.ts";
import { getArtifacts } from "../store/artifacts.ts";
import { insertCheckpoint } from "../store/checkpoints.ts";
import { insertManifest } from "../store/manifests.ts";
import { manifestMessage } from "./messages.ts";

/** A checkpoint of a task that never ends goes after this long, in milliseconds: longer than any task may wait. */
const checkpointKeepMs = 400 * 24 * 3_600_000;

/** Keeps the list of what an attempt left. It must have stored each file itself, with this size and SHA-256. */
export function putManifest(
  parts: StorageParts,
): Handler<typeof AttemptStorageService.method.putManifest> {
  return async (request, context) => {
    const admitted = await admitWorker(parts, context, request.parent);
    requireOwnManifest(admitted, request);
    const { tenant } = admitted;
    const manifest = canonicalManifest(
      request.files.map(({ path, sizeBytes, sha256, artifact }) => ({
        path,
        sizeBytes: Number(sizeBytes),
        sha256,
        artifact,
      })),
    );
    if (manifest.kind === "refused") {
      throw Fault.invalid(`files[${manifest.index}].path`, manifest.why);
    }
    await transaction(parts.db.api, async (tx) => {
      await withTenant(tx, tenant);
      await requireStored(tx, admitted, request);
      await insertManifest(tx, {
        orgId: tenant.org,
        projectId: tenant.project,
        digest: manifest.digest,
        attempt: request.attempt,
        files: manifest.files,
        createdMs: parts.clock.nowMs(),
      });
      await noteCheckpoint(tx, { tenant, request, digest: manifest.digest, clock: parts.clock });
    });
    return manifestMessage(manifest.digest, manifest.files);
  };
}

async function noteCheckpoint(
  tx: Tx,
  of: Pick<StorageParts, "clock"> & {
    readonly tenant: ProjectTenant;
    readonly request: PutManifestRequest;
    readonly digest: string;
  },
): Promise<void> {
  const { tenant, digest } = of;
  const { checkpoint } = of.request;
  if (checkpoint === undefined) return;
  const task = parseId("task", checkpoint.task);
  if (task === undefined) throw Fault.invalid("checkpoint.task", "must be a task's id");
  const { member, epoch, resumedDigest } = checkpoint;
  const nowMs = of.clock.nowMs();
  const whose = { orgId: tenant.org, projectId: tenant.project, task, member, epoch };
  const expiresMs = nowMs + checkpointKeepMs;
  await insertCheckpoint(tx, { ...whose, digest, expiresMs }, { resumedDigest, nowMs });
}

async function requireStored(
  tx: Tx,
  { tenant: { project }, grant }: Admitted,
  request: PutManifestRequest,
): Promise<void> {
  const named = request.files.map((file, index) => {
    const name = parseArtifactName(file.artifact);
    if (name.project === project) return name.artifact;
    throw Fault.invalid(`files[${index}].artifact`, "must be in the manifest's project");
  });
  const stored = new Map(
    (await getArtifacts(tx, project, [...new Set(named)])).map((artifact) => [
      artifactName(project, artifact.artifactId),
      artifact,
    ]),
  );
  for (const [index, file] of request.files.entries()) {
    const artifact = stored.get(file.artifact);
    // What others of the project have stored is as good as absent.
    const foreign = grant !== undefined && artifact?.attempt !== grant.attempt;
    if (artifact === undefined || foreign) throw Fault.notFound(file.artifact);
    if (artifact.sha256 !== file.sha256 || BigInt(artifact.sizeBytes) !== file.sizeBytes) {
      throw Fault.invalid(`files[${index}].sha256`, "is not that of the stored artifact");
    }
  }
}

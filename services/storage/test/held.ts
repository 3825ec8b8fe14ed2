import { AttemptStorageService } from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import type { TaskId } from "@fastgpu/domain/ids";
import type { Client } from "@fastgpu/rpc/client";
import { createGrantSigner, storageGrantHeader } from "@fastgpu/rpc/storage-grant";
import type { StorageGrant } from "@fastgpu/rpc/storage-grant";
import { anId } from "@fastgpu/testkit/factories";
import type { StorageWorld, Tenant } from "./running-storage.ts";

type StorageClient = Client<typeof AttemptStorageService>;

/** An attempt that a worker holds. */
export interface Held {
  readonly attempt: string;
  readonly task: TaskId;
  /** The grant's token. */
  readonly token: string;
  /** Calls as the worker, with the grant. */
  readonly client: StorageClient;
}

/** Gives the tests' worker an attempt of a tenant: with a grant as the scheduler signs it, of a minute's life. */
export async function hold(
  world: StorageWorld,
  tenant: Tenant,
  of: Partial<StorageGrant> & { readonly signedWith?: string } = {},
): Promise<Held> {
  const { signedWith = world.schedulerKeyPem, ...over } = of;
  const { org, project } = tenant;
  const grant: StorageGrant = {
    ...{ node: world.node, org, project, epoch: 1, inputs: [] },
    ...{ task: anId("task"), attempt: anId("att") },
    ...over,
  };
  const nowMs = world.clock.nowMs();
  const signer = createGrantSigner(signedWith);
  const token = await signer.sign(grant, { nowMs, expiresAtMs: nowMs + 60_000 });
  const { attempt, task } = grant;
  return { attempt, task, token, client: withGrant(world, token) };
}

/** The tests' worker with this grant. */
export function withGrant(world: StorageWorld, token: string): StorageClient {
  const client = world.as(AttemptStorageService, "worker");
  const options = { headers: { [storageGrantHeader]: token } };
  return {
    storeArtifact: (requests) => client.storeArtifact(requests, options),
    putManifest: (request) => client.putManifest(request, options),
    fetchManifest: (request) => client.fetchManifest(request, options),
    fetchArtifact: (request) => client.fetchArtifact(request, options),
  };
}

import { ArtifactService } from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import { createChannel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";
import { uploadOf } from "./running-storage.ts";

/** Uploads 4.5 of 5 MiB and then waits to be killed: `node upload-process.ts TARGET`, a JSON object. */
const target = JSON.parse(process.argv[2] ?? "") as {
  address: string;
  token: string;
  parent: string;
  uploadId: string;
};
const channel = createChannel({
  address: target.address,
  token: () => Promise.resolve(target.token),
});
const { parent, uploadId } = target;
await createClient(ArtifactService, channel).uploadArtifact(
  (async function* () {
    yield* uploadOf(Buffer.alloc(4.5 * (1 << 20), 1), { parent, uploadId });
    await new Promise((resolve) => setTimeout(resolve, 600_000));
  })(),
);

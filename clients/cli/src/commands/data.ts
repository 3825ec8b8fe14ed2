import { wholeNumber } from "../parse/quantities.ts";
import type { Runner } from "./define.ts";

/** `data` and `image`: files in and out. */
export function addDataCommands(runner: Runner): void {
  const data = runner.group("data", "files in and out");

  const put = data.remote("put", "store a file; a broken upload goes on where it stopped");
  put.command
    .argument("<file>", "- for standard input")
    .option("-n, --name <name>", "default: the file's name");
  put.run(async () => ({ run: (await import("../run/data.ts")).putData }));

  const get = data.remote("get", "fetch a file, checked against its checksum");
  get.command
    .argument("<artifact>")
    .argument("[file]", "where to; - for standard output; default: its own name, here");
  get.run(async () => ({ run: (await import("../run/data.ts")).getData }));

  const list = data.remote("list", "list files, newest first");
  list.command.option("--limit <n>", "greatest number; 0: all", wholeNumber(0, 1_000_000), 100);
  list.run(async () => ({ run: (await import("../run/data.ts")).listData }));

  const image = runner.group("image", "container images on this machine");
  const load = image.local("import", "make an image for this machine's workers from a tar file");
  load.command
    .argument("<name>", "for example localhost/train:1")
    .argument("<tar>", "a root file system, or what podman save or docker save wrote")
    .option("--engine <engine>", "podman or docker; default: the first that is found");
  load.run(async () => ({ run: (await import("../run/image.ts")).importImage }));
}

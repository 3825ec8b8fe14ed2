import { openDatabase } from "@fastgpu/postgres/database";
import type { Pool } from "@fastgpu/postgres/pool";
import { testDatabase } from "@fastgpu/testkit/database";
import { quiet } from "@fastgpu/testkit/log";

/** The scheduler's database of a test, as its core sees it. */
export async function openCore(): Promise<{ readonly core: Pool } & AsyncDisposable> {
  await using stack = new AsyncDisposableStack();
  const db = stack.use(await testDatabase({ services: ["scheduler"] }));
  const urls = db.urls["scheduler"]!;
  const { core } = stack.use(openDatabase({ service: "scheduler", urls, log: quiet }));
  const owned = stack.move();
  return { core, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

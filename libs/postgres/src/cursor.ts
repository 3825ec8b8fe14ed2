import type { Statement } from "./pool.ts";
import type { Tx } from "./transaction.ts";

/**
 * Reads what a query without parameters answers, in pages, by one run of it on the transaction's snapshot: its plan is
 * made once, and no page costs more for what comes before or after it. The next page is under way while one is looked
 * at. The cursor is called as the statement is; one cursor of a name at a time in a transaction.
 */
export async function* readByCursor<Row>(
  tx: Tx,
  query: Statement<Row>,
  pageRows: number,
): AsyncIterable<Row[]> {
  await tx.query({ name: "", text: `declare ${query.name} no scroll cursor for ${query.text}` });
  const fetch = (): Promise<Row[]> => {
    const page = tx.query<Row>({ name: "", text: `fetch ${pageRows} from ${query.name}` });
    // Asked for ahead, it may fail before it is looked at; whoever awaits it is told.
    page.catch(() => undefined);
    return page;
  };
  for (let next = fetch(); ;) {
    const page = await next;
    if (page.length === 0) break;
    next = fetch();
    yield page;
  }
  await tx.query({ name: "", text: `close ${query.name}` });
}

/** One page of a list. */
export interface Page<T> {
  items: readonly T[];
  /** Empty on the last page. */
  nextPageToken: string;
}

const LARGEST_PAGE = 1000;

/** Reads pages until `limit` items are there (0: all of them); `more` says whether some were left. */
export async function collectPages<T>(
  limit: number,
  read: (pageSize: number, pageToken: string) => Promise<Page<T>>,
): Promise<{ items: T[]; more: boolean }> {
  const items: T[] = [];
  let token = "";
  do {
    const wanted = limit === 0 ? LARGEST_PAGE : Math.min(LARGEST_PAGE, limit - items.length);
    const page = await read(wanted, token);
    items.push(...page.items);
    token = page.nextPageToken;
  } while (token !== "" && (limit === 0 || items.length < limit));
  return { items, more: token !== "" };
}

/** The part of a list that one call asks for. */
interface Page {
  readonly pageSize: number;
  readonly pageToken: string;
}

const LARGEST_PAGE = 1000;

/** Reads pages until `limit` items are there (0: all of them); `more` says whether some were left. */
export async function collectPages<Response extends { readonly nextPageToken: string }, T>(
  limit: number,
  read: (page: Page) => Promise<Response>,
  itemsOf: (response: Response) => readonly T[],
): Promise<{ items: T[]; more: boolean }> {
  const items: T[] = [];
  let pageToken = "";
  do {
    const pageSize = limit === 0 ? LARGEST_PAGE : Math.min(LARGEST_PAGE, limit - items.length);
    const response = await read({ pageSize, pageToken });
    items.push(...itemsOf(response));
    pageToken = response.nextPageToken;
  } while (pageToken !== "" && (limit === 0 || items.length < limit));
  return { items, more: pageToken !== "" };
}

/** Reads all pages. */
export async function allPages<Response extends { readonly nextPageToken: string }, T>(
  read: (page: Page) => Promise<Response>,
  itemsOf: (response: Response) => readonly T[],
): Promise<T[]> {
  return (await collectPages(0, read, itemsOf)).items;
}

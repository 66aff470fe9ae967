// Serves the files of a folder on this machine, as they are: for pages that import modules, which browsers do not load from the disk.
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join } from 'node:path';

const types: Record<string, string> = { '.html': 'text/html', '.js': 'text/javascript', '.json': 'application/json' };

/** Starts a server; `url` ends with a slash. */
export async function serve(folder: string): Promise<{ readonly url: string; close(): void }> {
  const server = createServer(async ({ url }, response) => {
    const path = decodeURIComponent(new URL(url!, 'http://here').pathname);
    const data = await readFile(join(folder, path)).catch(() => undefined);
    response.writeHead(data ? 200 : path === '/favicon.ico' ? 204 : 404, {
      'content-type': types[extname(path)] ?? '',
    });
    response.end(data);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

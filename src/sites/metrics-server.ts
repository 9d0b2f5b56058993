/** The HTTP server of a worker's metrics: `/metrics` for Prometheus, `/healthz` for whoever watches the process. */
import { createServer, type ServerResponse } from 'node:http';
import type { Endpoint } from '../config/endpoint.ts';
import { OffsiteError } from '../domain/errors.ts';

export interface Health {
  readonly database: boolean;
  readonly temporal: boolean;
}

export interface MetricsPages {
  /** Prometheus' text format. */
  metrics(): Promise<string>;
  health(): Promise<Health>;
}

export interface MetricsServer {
  /** `host:port`, with the port that was taken. */
  readonly address: string;
  close(): Promise<void>;
}

class MetricsPortTakenError extends OffsiteError {
  constructor(listen: string, cause: unknown) {
    super(
      'PortTaken',
      `another process listens at ${listen}`,
      'If it is an older worker of this node that hangs or is stopped, end it; else choose another metrics.listen.',
      { cause },
    );
  }
}

const MOST_CONNECTIONS = 16;
const REQUEST_TIMEOUT_MS = 10_000;

/** @throws {OffsiteError} PortTaken */
export async function startMetricsServer(listen: Endpoint, pages: MetricsPages): Promise<MetricsServer> {
  const server = createServer((request, response) => {
    if (request.method !== 'GET' && request.method !== 'HEAD') return say(response, 405, 'only GET\n');
    answer(request.url ?? '/', response, pages).catch((error: Error) => {
      if (response.headersSent) response.destroy();
      else say(response, 500, `${error.message}\n`);
    });
  });
  server.maxConnections = MOST_CONNECTIONS;
  server.requestTimeout = REQUEST_TIMEOUT_MS;
  server.headersTimeout = REQUEST_TIMEOUT_MS;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen(listen.port, listen.host, resolve);
  const written = (port: number) => `${listen.host.includes(':') ? `[${listen.host}]` : listen.host}:${port}`;
  await promise.catch(error => {
    const isTaken = (error as { code?: unknown }).code === 'EADDRINUSE';
    throw isTaken ? new MetricsPortTakenError(written(listen.port), error) : error;
  });
  const taken = server.address();
  return {
    address: written(typeof taken === 'object' && taken !== null ? taken.port : listen.port),
    async close() {
      const closed = new Promise<void>(done => server.close(() => done()));
      server.closeAllConnections();
      await closed;
    },
  };
}

async function answer(url: string, response: ServerResponse, pages: MetricsPages): Promise<void> {
  const [path] = url.split('?', 1);
  if (path === '/metrics') {
    say(response, 200, await pages.metrics(), 'text/plain; version=0.0.4; charset=utf-8');
  } else if (path === '/healthz') {
    const health = await pages.health();
    const status = health.database && health.temporal ? 200 : 503;
    say(response, status, `${JSON.stringify(health)}\n`, 'application/json');
  } else {
    say(response, 404, 'there are /metrics and /healthz\n');
  }
}

function say(
  response: ServerResponse,
  status: number,
  body: string,
  type = 'text/plain; charset=utf-8',
): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
  response.end(response.req.method === 'HEAD' ? undefined : body);
}

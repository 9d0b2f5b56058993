/** A source and a replica: most end-to-end tests need no more. A pair of more sites looks the same to them. */
import type { Client } from '@temporalio/client';
import type { Supervisor } from '../../src/dev/supervisor.ts';
import { type CliResult, type Sites, type SitesAccess, type SourceRule, startSites } from './sites.ts';
import type { TcpProxy } from './tcp-proxy.ts';

export { type CliResult, runCli, type SourceRule } from './sites.ts';

/** `a` is the source of the pair and `b` its replica, whatever their names are. */
export interface TwoSites {
  readonly siteName: { readonly a: string; readonly b: string };
  readonly dataDir: string;
  /** Where the test puts its images; the only image root of site a. */
  readonly imageDir: string;
  readonly replicaRoot: string;
  readonly databaseUrl: { readonly a: string; readonly b: string };
  readonly configPath: { readonly a: string; readonly b: string };
  readonly client: Client;
  /** Temporal's Web UI, null unless asked for. */
  readonly webUiUrl: string | null;
  /** Stands between the sites; B advertises it. */
  readonly proxy: TcpProxy;
  /** Where B's receiver itself listens. */
  readonly receiverPort: number;
  readonly supervisor: Supervisor;
  /** Runs the command line as an operator does. */
  cli(site: 'a' | 'b', ...args: string[]): Promise<CliResult>;
  /** As {@link cli} with --json. @throws unless it exits 0 */
  json<T>(site: 'a' | 'b', ...args: string[]): Promise<T>;
  /** Writes A's configuration anew with this rule, and starts its worker anew. */
  allow(rule: SourceRule): Promise<void>;
  /** What a service has written to its log so far. */
  logOf(service: string): string;
  close(): Promise<void>;
}

/** How the sites reach their servers, where it is not as superuser and in plain text. */
export interface Access extends Omit<SitesAccess, 'databaseUrl'> {
  readonly databaseUrl: { readonly a: string; readonly b: string };
}

/** Where the servers are, as only the test reaches them. */
export interface Servers {
  readonly dataDir: string;
  readonly databaseUrl: { readonly a: string; readonly b: string };
  readonly temporalAddress: string;
}

export interface TwoSitesOptions {
  readonly replicaRoot?: string;
  readonly rule?: SourceRule;
  readonly webUi?: boolean;
  /** False: the test starts the workers itself. */
  readonly workers?: boolean;
  /** Called when both servers answer, before the sites are configured. */
  readonly prepare?: (servers: Servers) => Promise<Access>;
}

/** Starts PostgreSQL, Temporal and a worker a site, all of this test's own, so that it may kill any of them. */
export async function startTwoSites(options: TwoSitesOptions = {}): Promise<TwoSites> {
  const { replicaRoot, rule = {}, webUi = false, workers = true, prepare } = options;
  const sites = await startSites(
    [
      { name: 'a', replicaRoot: null, sourceOf: { b: rule } },
      { name: 'b', ...(replicaRoot === undefined ? {} : { replicaRoot }) },
    ],
    {
      webUi,
      workers,
      ...(prepare === undefined
        ? {}
        : {
            prepare: async ({ databaseUrl: { a = '', b = '' }, ...servers }) => {
              const access = await prepare({ ...servers, databaseUrl: { a, b } });
              return { ...access, databaseUrl: { ...access.databaseUrl } };
            },
          }),
    },
  );
  return pairOf(sites, 'a', 'b');
}

/** Two of the sites, as all helpers of end-to-end tests take them. Closing it closes all. */
export function pairOf(sites: Sites, source: string, replica: string): TwoSites {
  const [a, b] = [sites.of(source), sites.of(replica)];
  if (b.proxy === null) throw new Error(`site ${replica} receives nothing`);
  return {
    siteName: { a: source, b: replica },
    dataDir: sites.dataDir,
    imageDir: a.imageDir,
    replicaRoot: b.replicaRoot,
    databaseUrl: { a: a.databaseUrl, b: b.databaseUrl },
    configPath: { a: a.configPath, b: b.configPath },
    client: sites.client,
    webUiUrl: sites.webUiUrl,
    proxy: b.proxy,
    receiverPort: b.receiverPort,
    supervisor: sites.supervisor,
    cli: (site, ...args) => (site === 'a' ? a : b).cli(...args),
    json: (site, ...args) => (site === 'a' ? a : b).json(...args),
    allow: rule => a.allow(replica, rule),
    logOf: service => sites.logOf(service),
    close: () => sites.close(),
  };
}

/** Whole sites as separate processes, with a TCP proxy on the data line to each replica. */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client, Connection } from '@temporalio/client';
import { inject } from 'vitest';
import { writeConfig } from '../../src/config/write-config.ts';
import { chooseFreePorts } from '../../src/dev/ports.ts';
import { postgresUrl } from '../../src/dev/postgres-server.ts';
import { type Supervisor, startSupervisor } from '../../src/dev/supervisor.ts';
import { startTcpProxy, type TcpProxy } from './tcp-proxy.ts';

const SOURCES = fileURLToPath(new URL('../../src/', import.meta.url));

export interface CliResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** What a source's configuration lets out to a replica site; what is left out allows all. */
export interface SourceRule {
  readonly hosts?: string[];
  readonly endpoints?: string[];
  readonly fingerprints?: string[];
}

/** One site of a test: what it receives, and whom it may send to. */
export interface SitePlan {
  readonly name: string;
  /** Where its replicas lie; null for a site that receives nothing, undefined for a folder of its own. */
  readonly replicaRoot?: string | null;
  /** The sites that may have its snapshots. */
  readonly sourceOf?: Readonly<Record<string, SourceRule>>;
}

export interface RunningSite {
  readonly name: string;
  readonly configPath: string;
  readonly databaseUrl: string;
  readonly dataDir: string;
  /** Its only image root: of a site that receives, the folder of its replicas. */
  readonly imageDir: string;
  /** The folder of its replicas; the same as `imageDir` for a site that receives. */
  readonly replicaRoot: string;
  /** On the line to its receiver, which advertises it; null for a site that receives nothing. */
  readonly proxy: TcpProxy | null;
  readonly receiverPort: number;
  /** Runs the command line as an operator does. */
  cli(...args: string[]): Promise<CliResult>;
  /** As {@link cli} with --json. @throws unless it exits 0 */
  json<T>(...args: string[]): Promise<T>;
  /** Writes its configuration anew with this rule for the replica site, and starts its worker anew. */
  allow(replicaSite: string, rule: SourceRule): Promise<void>;
}

export interface Sites {
  readonly dataDir: string;
  readonly client: Client;
  /** Temporal's Web UI, null unless asked for. */
  readonly webUiUrl: string | null;
  readonly supervisor: Supervisor;
  of(name: string): RunningSite;
  /** What a service has written to its log so far. */
  logOf(service: string): string;
  close(): Promise<void>;
}

/** How the sites reach their servers, by the sites' names, where it is not as superuser and in plain text. */
export interface SitesAccess {
  readonly databaseUrl: Readonly<Record<string, string>>;
  /** The configurations' `temporal` section. */
  readonly temporal: { readonly address?: string; readonly namespace?: string };
  /** Of the workers and of the command line. */
  readonly environment: Readonly<Record<string, string>>;
}

export interface SitesOptions {
  readonly webUi?: boolean;
  /** False: the test starts the workers itself. */
  readonly workers?: boolean;
  /** Called when both servers answer, before the sites are configured. */
  readonly prepare?: (servers: {
    readonly dataDir: string;
    readonly databaseUrl: Readonly<Record<string, string>>;
    readonly temporalAddress: string;
  }) => Promise<SitesAccess>;
}

/** Starts PostgreSQL, Temporal and a worker a site, all of this test's own, so that it may kill any of them. */
export async function startSites(
  plans: readonly SitePlan[],
  { webUi = false, workers = true, prepare }: SitesOptions = {},
): Promise<Sites> {
  const dataDir = mkdtempSync(join(tmpdir(), 'offsite-e2e-'));
  const [postgres = 0, grpc = 0, http = 0, ui = 0, ...receivers] = await chooseFreePorts(4 + plans.length);
  const uiPort = webUi ? ui : null;
  const supervisor = await startSupervisor({
    dataDir,
    removeDataDirAtEnd: true,
    services: [
      {
        kind: 'postgres',
        name: 'postgres',
        port: postgres,
        databases: plans.map(({ name }) => `site_${name}`),
      },
      {
        kind: 'temporal',
        name: 'temporal',
        cliPath: inject('temporalCliPath'),
        grpcPort: grpc,
        httpPort: http,
        uiPort,
        persistent: true,
      },
    ],
  });
  const address = `127.0.0.1:${grpc}`;
  const proxies = new Map<string, TcpProxy>();
  for (const [index, plan] of plans.entries()) {
    if (plan.replicaRoot === null) continue;
    proxies.set(plan.name, await startTcpProxy({ host: '127.0.0.1', port: receivers[index] ?? 0 }));
  }
  const databaseUrl = Object.fromEntries(
    plans.map(({ name }) => [name, postgresUrl(dataDir, postgres, `site_${name}`)]),
  );
  const access = (await prepare?.({ dataDir, databaseUrl, temporalAddress: address })) ?? {
    databaseUrl,
    temporal: { address },
    environment: {},
  };
  const running = new Map<string, RunningSite>();
  for (const [index, plan] of plans.entries()) {
    const port = receivers[index] ?? 0;
    const ownUrl = databaseUrl[plan.name] ?? '';
    running.set(
      plan.name,
      await prepareSite(plan, { dataDir, databaseUrl: ownUrl, access, proxies, port, supervisor }),
    );
  }
  await supervisor.start(
    (workers ? [...running.values()] : []).map(({ name, configPath }) => ({
      kind: 'process' as const,
      name: `worker-${name}`,
      command: process.execPath,
      args: [join(SOURCES, 'worker.ts'), '--config', configPath],
      env: access.environment,
    })),
  );
  const connection = await Connection.connect({ address });
  return {
    dataDir,
    client: new Client({ connection }),
    webUiUrl: uiPort === null ? null : `http://127.0.0.1:${uiPort}`,
    supervisor,
    of(name) {
      const site = running.get(name);
      if (site === undefined) throw new Error(`there is no site ${name}`);
      return site;
    },
    logOf: service => readFileSync(join(dataDir, 'logs', `${service}.log`), 'utf8'),
    async close() {
      await connection.close();
      await supervisor.stop();
      for (const proxy of proxies.values()) await proxy.close();
    },
  };
}

interface Surroundings {
  readonly dataDir: string;
  readonly databaseUrl: string;
  readonly access: SitesAccess;
  readonly proxies: ReadonlyMap<string, TcpProxy>;
  readonly port: number;
  readonly supervisor: Supervisor;
}

/** Writes a site's configuration. */
async function prepareSite(plan: SitePlan, around: Surroundings): Promise<RunningSite> {
  const { name } = plan;
  const { databaseUrl, access, proxies, port, supervisor } = around;
  const configPath = join(around.dataDir, `site-${name}.yaml`);
  const dataDir = join(around.dataDir, `site-${name}`);
  const proxy = proxies.get(name) ?? null;
  const replicaRoot = plan.replicaRoot ?? join(around.dataDir, `replicas-${name}`);
  const imageDir = proxy === null ? join(around.dataDir, `images-${name}`) : replicaRoot;
  mkdirSync(imageDir, { recursive: true });
  const rules = new Map(Object.entries(plan.sourceOf ?? {}));
  const writeRules = () =>
    writeConfig(configPath, {
      site: name,
      node: `${name}1`,
      dataDir,
      database: { url: access.databaseUrl[name] ?? '' },
      temporal: access.temporal,
      ...(rules.size === 0
        ? {}
        : {
            source: { imageRoots: [imageDir], replicaSites: [...rules].map(rule => toRule(rule, proxies)) },
          }),
      ...(proxy === null
        ? {}
        : {
            replica: {
              listen: `127.0.0.1:${port}`,
              advertise: `127.0.0.1:${proxy.port}`,
              directory: replicaRoot,
            },
          }),
    });
  await writeRules();
  const cli = (...args: string[]) => runCli(['--config', configPath, ...args], access.environment);
  return {
    name,
    configPath,
    databaseUrl,
    dataDir,
    imageDir,
    replicaRoot,
    proxy,
    receiverPort: port,
    cli,
    async json(...args) {
      const result = await cli(...args, '--json');
      if (result.exitCode !== 0) throw new Error(`offsite ${args.join(' ')}: ${result.stderr}`);
      return JSON.parse(result.stdout);
    },
    async allow(replicaSite, rule) {
      rules.set(replicaSite, rule);
      await writeRules();
      await supervisor.restart(`worker-${name}`);
    },
  };
}

const toRule = (
  [site, { hosts = ['*'], ...rest }]: [string, SourceRule],
  proxies: ReadonlyMap<string, TcpProxy>,
) => ({ site, hosts, endpoints: [`127.0.0.1:${proxies.get(site)?.port}`], ...rest });

/**
 * Temporal's database is gone for good: a fresh server starts on the same address.
 * @returns when it serves
 */
export async function loseTemporal({ dataDir, supervisor, client }: LosableTemporal): Promise<void> {
  const before = supervisor.status().temporal ?? 0;
  for (const suffix of ['', '-wal', '-shm']) rmSync(join(dataDir, `temporal.db${suffix}`), { force: true });
  process.kill(before, 'SIGKILL');
  const deadlineMs = Date.now() + 120_000;
  for (;;) {
    await new Promise(resolve => setTimeout(resolve, 100));
    const isNew = supervisor.status().temporal !== before;
    if (isNew && (await serves(client))) return;
    if (Date.now() > deadlineMs) throw new Error('no fresh Temporal server came up');
  }
}

type LosableTemporal = Pick<Sites, 'dataDir' | 'supervisor' | 'client'>;

async function serves({ workflowService, connection }: Client): Promise<boolean> {
  try {
    await connection.withDeadline(Date.now() + 2_000, () =>
      workflowService.describeNamespace({ namespace: 'default' }),
    );
    return true;
  } catch {
    return false;
  }
}

/** Runs `offsite ARGS` from the sources. */
export function runCli(
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<CliResult> {
  return new Promise(resolve => {
    execFile(
      process.execPath,
      [join(SOURCES, 'starter.ts'), ...args],
      { timeout: 60_000, env: { ...process.env, ...environment } },
      (error, stdout, stderr) => {
        const exitCode = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
        resolve({ exitCode, stdout, stderr });
      },
    );
  });
}

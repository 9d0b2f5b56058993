/** A whole run with secrets everywhere: database roles with passwords, over TLS; mutual TLS and a key for Temporal. */
import { chownSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createAuthority, type KeyPair, sign } from '../support/certificates.ts';
import { createRoles, type TwoRoles } from '../support/database-roles.ts';
import {
  createHostImages,
  createSchedule,
  showSchedule,
  until,
  untilPublished,
} from '../support/e2e-host.ts';
import { invariantsOf } from '../support/e2e-look.ts';
import {
  type ArgumentWatch,
  keyLines,
  temporalTexts,
  textsBelow,
  watchArguments,
} from '../support/secret-search.ts';
import { startTlsFront, type TlsFront } from '../support/tls-front.ts';
import { type Access, runCli, type Servers, startTwoSites, type TwoSites } from '../support/two-sites.ts';

const API_KEY = 'temporal-key-3f1c9d0e7a5b';
const secrets: { name: string; text: string }[] = [{ name: "Temporal's key", text: API_KEY }];
const roles: { a?: TwoRoles; b?: TwoRoles } = {};
let environment: Record<string, string> = {};
let front: TlsFront;
let sites: TwoSites;
let watch: ArgumentWatch;

async function run(connectionString: string, sql: string): Promise<object[]> {
  const client = new pg.Client({ connectionString });
  await client.connect();
  const { rows } = await client.query(sql);
  await client.end();
  return rows;
}

/** Gives PostgreSQL a certificate. @returns what a connection string needs to check it */
async function switchTlsOn({ dataDir, databaseUrl }: Servers, authority: KeyPair): Promise<string> {
  const cluster = join(dataDir, 'postgres', 'data');
  const { uid, gid } = statSync(cluster);
  const { keyPem, certificatePem } = await sign(authority, 'localhost');
  for (const [name, text] of [
    ['server.key', keyPem],
    ['server.crt', certificatePem],
  ] as const) {
    writeFileSync(join(cluster, name), text, { mode: 0o600 });
    chownSync(join(cluster, name), uid, gid);
  }
  await run(databaseUrl.a, 'alter system set ssl = on');
  await run(databaseUrl.a, 'select pg_reload_conf()');
  return `?sslmode=verify-full&sslrootcert=${encodeURIComponent(join(dataDir, 'authority.crt'))}`;
}

async function prepare(servers: Servers): Promise<Access> {
  const { dataDir, databaseUrl, temporalAddress } = servers;
  for (const site of ['a', 'b'] as const) {
    const made = await createRoles(databaseUrl[site], `site_${site}`);
    roles[site] = made;
    for (const [index, text] of made.passwords.entries()) {
      secrets.push({ name: `the password of ${site}'s ${index === 0 ? 'owner' : 'worker'}`, text });
    }
  }
  const authority = await createAuthority('temporal');
  const client = await sign(authority, 'offsite');
  const store = (name: string, { keyPem, certificatePem }: KeyPair): void => {
    writeFileSync(join(dataDir, `${name}.crt`), certificatePem);
    writeFileSync(join(dataDir, `${name}.key`), keyPem, { mode: 0o600 });
  };
  store('authority', authority);
  store('client', client);
  const checked = await switchTlsOn(servers, authority);
  for (const text of keyLines(client.keyPem)) secrets.push({ name: 'the key for Temporal', text });
  const [host = '', port] = temporalAddress.split(':');
  front = await startTlsFront({
    server: await sign(authority, 'localhost'),
    clientAuthority: authority,
    target: { host, port: Number(port) },
  });
  environment = {
    TEMPORAL_ADDRESS: `localhost:${front.port}`,
    TEMPORAL_API_KEY: API_KEY,
    TEMPORAL_TLS_SERVER_CA_CERT_PATH: join(dataDir, 'authority.crt'),
    TEMPORAL_TLS_CLIENT_CERT_PATH: join(dataDir, 'client.crt'),
    TEMPORAL_TLS_CLIENT_KEY_PATH: join(dataDir, 'client.key'),
  };
  return {
    databaseUrl: { a: `${roles.a?.runtimeUrl}${checked}`, b: `${roles.b?.runtimeUrl}${checked}` },
    temporal: {},
    environment,
  };
}

beforeAll(async () => {
  watch = watchArguments();
  sites = await startTwoSites({ prepare });
}, 300_000);
afterAll(async () => {
  watch?.stop();
  await sites?.close();
  await front?.close();
});

const asAdmin = (site: 'a' | 'b', sql: string): Promise<object[]> => run(sites.databaseUrl[site], sql);

const roleOf = (site: 'a' | 'b'): string => new URL(roles[site]?.runtimeUrl ?? '').username;

test('workers wait for the owner to make the tables, and say so', async () => {
  for (const site of ['a', 'b'] as const) {
    await until(
      `worker ${site} waiting`,
      async () => sites.logOf(`worker-${site}`),
      log => log.includes('CatalogOutdated') && log.includes('OFFSITE_DATABASE_OWNER_URL'),
    );
    const before = await sites.cli(site, 'setup');
    expect(before.exitCode).toBe(1);
    expect(before.stderr).toContain('OFFSITE_DATABASE_OWNER_URL');
    const owner = { ...environment, OFFSITE_DATABASE_OWNER_URL: roles[site]?.ownerUrl ?? '' };
    const made = await runCli(['--config', sites.configPath[site], 'setup'], owner);
    expect(made.stderr).toBe('');
    expect(made.stdout).toContain(`the rights of the role ${roleOf(site)}`);
  }
}, 300_000);

test('a whole run needs rows only, and gets by behind mutual TLS', async () => {
  const host = await createHostImages(sites, 'web1', { vda: '64M' });
  const first = await host.next(() => ['write -P 1 0 8M']);
  await createSchedule(sites, 'nightly', 'web1');
  await untilPublished(sites, 'nightly', first);

  // What fails is told too, and must not tell more than it should.
  await asAdmin('b', `alter role ${roleOf('b')} nologin`);
  await asAdmin(
    'b',
    `select pg_terminate_backend(pid) from pg_stat_activity where usename = '${roleOf('b')}'`,
  );
  const second = await host.next(() => ['write -P 2 1M 1M']);
  await sites.cli('b', 'schedule', 'run', 'nightly');
  await until(
    'a step that cannot reach the catalog',
    () => showSchedule(sites, 'nightly').catch(() => null),
    shown => shown?.retry?.code === 'DatabaseUnreachable',
  );
  await asAdmin('b', `alter role ${roleOf('b')} login`);
  await untilPublished(sites, 'nightly', second);
  expect(await invariantsOf(sites)).toEqual([]);
  expect(front.admitted).toBeGreaterThan(0);
  const lines = 'select distinct ssl from pg_stat_activity join pg_stat_ssl using (pid)';
  expect(await asAdmin('b', `${lines} where usename like 'worker_%'`)).toEqual([{ ssl: true }]);
}, 300_000);

test('no secret is in the arguments of a process, in a log, or in what Temporal keeps', async () => {
  for (const site of ['a', 'b']) {
    const pem = readFileSync(join(sites.dataDir, `site-${site}`, 'identity', 'node-identity.pem'), 'utf8');
    const lines = keyLines(pem);
    expect(lines.length).toBeGreaterThan(0);
    for (const text of lines) secrets.push({ name: `the key of ${site}`, text });
  }
  const temporal = await temporalTexts(sites.client);
  // The search sees what it should: a payload, a failure, an argument.
  const everything = [...temporal.values()].join('\n');
  expect(everything).toContain('web1');
  expect(everything).toContain('DatabaseUnreachable');
  expect([...watch.seen].some(text => text.includes(sites.configPath.b))).toBe(true);
  const logs = textsBelow(join(sites.dataDir, 'logs'));
  expect([...logs.keys()].length).toBeGreaterThanOrEqual(4);
  const places = [...temporal, ...logs, ...[...watch.seen].map(text => [`process: ${text}`, text] as const)];
  const found = secrets.flatMap(({ name, text }) =>
    places.filter(([, content]) => content.includes(text)).map(([place]) => `${name} is in ${place}`),
  );
  expect(found).toEqual([]);
}, 300_000);

test('keys, configuration and replicas are not for others', () => {
  const modeOf = (path: string): string => (statSync(path).mode & 0o777).toString(8);
  expect(modeOf(sites.configPath.a)).toBe('600');
  for (const site of ['a', 'b']) {
    expect(modeOf(join(sites.dataDir, `site-${site}`, 'identity'))).toBe('700');
    expect(modeOf(join(sites.dataDir, `site-${site}`, 'identity', 'node-identity.pem'))).toBe('600');
  }
  // The root may have been made by whoever set the site up; what the worker makes in it is not for others.
  expect(statSync(join(sites.replicaRoot, 'web1')).mode & 0o007).toBe(0);
  expect(statSync(join(sites.replicaRoot, 'web1', 'vda')).mode & 0o007).toBe(0);
});

/** Temporal behind mutual TLS, reached by Temporal's own client profile, as the command line and the worker do. */

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NativeConnection, type NativeConnectionOptions } from '@temporalio/worker';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, it, vi } from 'vitest';
import { writeConfig } from '../../../src/config/write-config.ts';
import { temporalTarget } from '../../../src/orchestration/temporal-connection.ts';
import { createTemporalLink } from '../../../src/orchestration/temporal-link.ts';
import { createAuthority, type KeyPair, sign } from '../../support/certificates.ts';
import { useTestDatabase } from '../../support/database.ts';
import { awaiting } from '../../support/e2e-faults.ts';
import { startTlsFront, type TlsFront } from '../../support/tls-front.ts';

const WORKER = fileURLToPath(new URL('../../../src/worker.ts', import.meta.url));
const database = useTestDatabase();
const folder = mkdtempSync(join(tmpdir(), 'offsite-tls-'));
let front: TlsFront;
let expiredFront: TlsFront;

function store(name: string, { keyPem, certificatePem }: KeyPair): void {
  writeFileSync(join(folder, `${name}.crt`), certificatePem);
  writeFileSync(join(folder, `${name}.key`), keyPem, { mode: 0o600 });
}

beforeAll(async () => {
  const [authority, stranger] = await Promise.all([createAuthority('ours'), createAuthority('theirs')]);
  store('authority', authority);
  store('stranger', stranger);
  store('client', await sign(authority, 'client'));
  store('unknown', await sign(stranger, 'client'));
  store('expired', await sign(authority, 'client', { expired: true }));
  const [host = '', port] = inject('temporalAddress').split(':');
  const common = { clientAuthority: authority, target: { host, port: Number(port) } };
  front = await startTlsFront({ server: await sign(authority, 'localhost'), ...common });
  expiredFront = await startTlsFront({
    server: await sign(authority, 'localhost', { expired: true }),
    ...common,
  });
});
afterAll(async () => {
  await front?.close();
  await expiredFront?.close();
  rmSync(folder, { recursive: true });
});
beforeEach(() => {
  // No profile file of whoever runs the tests.
  vi.stubEnv('HOME', '/nonexistent');
  vi.stubEnv('XDG_CONFIG_HOME', '/nonexistent');
  vi.stubEnv('TEMPORAL_CONFIG_FILE', undefined);
});
afterEach(() => {
  vi.unstubAllEnvs();
});

/** The profile by its variables. @param client the client certificate's name; null shows none */
function profile(address: string, client: string | null, authority = 'authority'): void {
  vi.stubEnv('TEMPORAL_ADDRESS', address);
  vi.stubEnv('TEMPORAL_TLS', 'true');
  vi.stubEnv('TEMPORAL_TLS_SERVER_CA_CERT_PATH', join(folder, `${authority}.crt`));
  if (client === null) return;
  vi.stubEnv('TEMPORAL_TLS_CLIENT_CERT_PATH', join(folder, `${client}.crt`));
  vi.stubEnv('TEMPORAL_TLS_CLIENT_KEY_PATH', join(folder, `${client}.key`));
}

async function ask(settings = {}, connectTimeoutMs = 30_000): Promise<void> {
  const link = createTemporalLink(temporalTarget(settings), connectTimeoutMs);
  try {
    await link.call(({ connection }) => connection.workflowService.getSystemInfo({}));
  } finally {
    await link.close();
  }
}

describe('mutual TLS to Temporal', () => {
  it("comes about by the profile's variables, for the command line and for the worker", async () => {
    profile(`localhost:${front.port}`, 'client');
    await ask();
    const { connectionOptions } = temporalTarget({});
    const connection = await NativeConnection.connect(connectionOptions as NativeConnectionOptions);
    await connection.workflowService.getSystemInfo({});
    await connection.close();
    expect(front.admitted).toBeGreaterThanOrEqual(2);
  });

  it('comes about by a profile in a file', async () => {
    const path = join(folder, 'temporal.toml');
    writeFileSync(
      path,
      `[profile.default]\naddress = "localhost:${front.port}"\n[profile.default.tls]\n` +
        `server_ca_cert_path = "${folder}/authority.crt"\n` +
        `client_cert_path = "${folder}/client.crt"\nclient_key_path = "${folder}/client.key"\n`,
    );
    vi.stubEnv('TEMPORAL_CONFIG_FILE', path);
    await ask();
  });

  const fails = async (words: RegExp, settings = {}): Promise<void> => {
    // The client says nothing before its deadline.
    await expect(ask(settings, 500)).rejects.toMatchObject({
      code: 'TemporalTlsFailed',
      message: expect.stringMatching(words),
      hint: expect.stringContaining('TEMPORAL_TLS'),
    });
  };

  it('is refused without a client certificate', async () => {
    profile(`localhost:${front.port}`, null);
    await fails(/may want a client certificate, and none is configured/);
  });

  it("is refused with another authority's certificate", async () => {
    profile(`localhost:${front.port}`, 'unknown');
    await fails(/does not accept our client certificate/);
  });

  it('is refused with an expired one, whose end is told', async () => {
    profile(`localhost:${front.port}`, 'expired');
    await fails(/our client certificate expired on/);
  });

  it('does not trust a server of another authority', async () => {
    profile(`localhost:${front.port}`, 'client', 'stranger');
    await fails(/signed by no authority that is trusted here/);
  });

  it("does not trust a server's expired certificate", async () => {
    profile(`localhost:${expiredFront.port}`, 'client');
    await fails(/its certificate has expired/);
  });

  it('does not trust a certificate of another name', async () => {
    profile(`localhost:${front.port}`, 'client');
    vi.stubEnv('TEMPORAL_TLS_SERVER_NAME', 'temporal.example');
    await fails(/is for another name/);
  });

  it('tells of TLS on the server only', async () => {
    await fails(/speaks TLS, and the connection is configured without/, {
      address: `localhost:${front.port}`,
    });
  });

  it('tells of TLS on our side only', async () => {
    profile(inject('temporalAddress'), 'client');
    await fails(/speaks no TLS/);
  });

  it('is told by a worker that waits, as long as it has no certificate', async () => {
    const configPath = join(folder, 'b.yaml');
    await writeConfig(configPath, {
      site: 'b',
      node: 'b1',
      dataDir: folder,
      database: { url: database().url },
      replica: { listen: '127.0.0.1:0' },
    });
    profile(`localhost:${front.port}`, null);
    const refusedBefore = front.refused;
    const worker = spawn(process.execPath, [WORKER, '--config', configPath], { env: process.env });
    const ended = new Promise(resolve => worker.once('exit', resolve));
    let said = '';
    for (const stream of [worker.stdout, worker.stderr]) stream.on('data', text => (said += text));
    try {
      await awaiting(
        'TemporalTlsFailed',
        () => said.includes('TemporalTlsFailed') || worker.exitCode !== null,
        60_000,
      );
    } finally {
      worker.kill('SIGTERM');
      await ended;
    }
    expect(said).toContain('may want a client certificate, and none is configured');
    expect(front.refused).toBeGreaterThan(refusedBefore);
  });

  it('is not blamed for a server that is away', async () => {
    profile('localhost:1', 'client');
    await expect(ask({}, 500)).rejects.toMatchObject({ code: 'TemporalUnreachable' });
  });
});

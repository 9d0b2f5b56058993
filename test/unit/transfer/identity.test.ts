import { X509Certificate } from 'node:crypto';
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { IDENTITY_FILE, loadIdentity } from '../../../src/transfer/identity.ts';

describe("a node's identity", () => {
  let directory: string;
  let path: string;
  beforeEach(async () => {
    directory = join(await mkdtemp(join(tmpdir(), 'offsite-identity-')), 'identity');
    path = join(directory, IDENTITY_FILE);
  });
  afterEach(() => rm(join(directory, '..'), { recursive: true }));

  test('is made once, for the owner alone, and is the same ever after', async () => {
    const made = await loadIdentity(directory, 'b.node1');
    expect(made.fingerprint).toMatch(/^[0-9a-f]{64}$/);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await loadIdentity(directory)).toEqual(made);
    const certificate = new X509Certificate(made.certificatePem);
    expect(certificate.fingerprint256.replaceAll(':', '').toLowerCase()).toBe(made.fingerprint);
    expect(certificate.subject).toBe('CN=b.node1');
    expect(certificate.publicKey.asymmetricKeyDetails?.namedCurve).toBe('prime256v1');
    expect(new Date(certificate.validTo).getFullYear()).toBeGreaterThan(2100);
  });

  test('is one for all who start at once, and nothing else is left behind', async () => {
    const all = await Promise.all(Array.from({ length: 8 }, () => loadIdentity(directory)));
    expect(new Set(all.map(({ fingerprint }) => fingerprint)).size).toBe(1);
    expect(await readdir(directory)).toEqual([IDENTITY_FILE]);
  });

  test('is refused while others can read it', async () => {
    await loadIdentity(directory);
    await chmod(path, 0o640);
    await expect(loadIdentity(directory)).rejects.toMatchObject({
      code: 'IdentityInvalid',
      hint: expect.stringContaining('chmod 600'),
    });
  });

  test('is refused when it is damaged, or its key is not of its certificate', async () => {
    const first = await loadIdentity(directory);
    await writeFile(path, (await readFile(path, 'utf8')).slice(0, 200));
    await expect(loadIdentity(directory)).rejects.toMatchObject({ code: 'IdentityInvalid' });
    await rm(path);
    const second = await loadIdentity(directory);
    expect(second.fingerprint).not.toBe(first.fingerprint);
    await writeFile(path, first.keyPem + second.certificatePem);
    await expect(loadIdentity(directory)).rejects.toMatchObject({
      message: expect.stringContaining('not that of its certificate'),
    });
  });
});

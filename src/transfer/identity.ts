/** A node's key pair and self-signed certificate: who it is on data connections. */
import { createHash, createPrivateKey, randomUUID, X509Certificate } from 'node:crypto';
import { link, mkdir, open, readFile, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { effect } from '../lib/fault-points.ts';
import { IdentityError } from './errors.ts';

/** The file of key and certificate in an identity's directory. */
export const IDENTITY_FILE = 'node-identity.pem';

const VALID_YEARS = 100;
const YEAR_MS = 365.25 * 24 * 3600 * 1000;

export interface NodeIdentity {
  readonly keyPem: string;
  readonly certificatePem: string;
  /** SHA-256 of the certificate in DER form, lower-case hexadecimal. */
  readonly fingerprint: string;
}

/** @returns SHA-256 of a certificate's DER form, lower-case hexadecimal */
export const fingerprintOf = (der: Uint8Array): string => createHash('sha256').update(der).digest('hex');

/**
 * Loads the node's identity, or makes it at the first start. Of several processes that start at once one makes
 * it and all get the same.
 * @param commonName only for people who look into the certificate
 * @throws {IdentityError} when the file is damaged, or readable for others than its owner
 */
export async function loadIdentity(directory: string, commonName = 'offsite node'): Promise<NodeIdentity> {
  const path = join(directory, IDENTITY_FILE);
  if ((await load(path)) === null) {
    await effect('identity.mkdir', () => mkdir(directory, { recursive: true, mode: 0o700 }));
    await store(path, await makeIdentityPem(commonName));
  }
  // Also of one that was there: who made it may have died before this, and others may have seen it since.
  const folder = await open(directory, 'r');
  await effect('identity.syncDirectory', () => folder.sync()).finally(() => folder.close());
  const made = await load(path);
  if (made === null) throw new IdentityError(`${path} vanished while it was made`, 'Start again.');
  return made;
}

async function load(path: string): Promise<NodeIdentity | null> {
  try {
    const { mode } = await stat(path);
    if ((mode & 0o077) !== 0) {
      throw new IdentityError(`${path} can be read by others than its owner`, `Run: chmod 600 ${path}`);
    }
    return parse(path, await readFile(path, 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

function parse(path: string, pem: string): NodeIdentity {
  const keyPem = /-----BEGIN PRIVATE KEY-----.+?-----END PRIVATE KEY-----\n?/s.exec(pem)?.[0] ?? '';
  const certificatePem = /-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?/s.exec(pem)?.[0] ?? '';
  const hint =
    'Restore it, or remove it to get a new identity, which the other sites must then be told to trust.';
  try {
    const certificate = new X509Certificate(certificatePem);
    if (certificate.checkPrivateKey(createPrivateKey(keyPem))) {
      return { keyPem, certificatePem, fingerprint: fingerprintOf(certificate.raw) };
    }
  } catch (error) {
    throw new IdentityError(`${path} holds no key and certificate`, hint, { cause: error });
  }
  throw new IdentityError(`the key in ${path} is not that of its certificate`, hint);
}

async function makeIdentityPem(commonName: string): Promise<string> {
  // Needed at the first start only, and slow to load.
  const { generate } = await import('selfsigned');
  const made = await generate([{ name: 'commonName', value: commonName }], {
    keyType: 'ec',
    curve: 'P-256',
    algorithm: 'sha256',
    notAfterDate: new Date(Date.now() + VALID_YEARS * YEAR_MS),
  });
  return `${made.private.trim()}\n${made.cert.trim()}\n`;
}

/** The file appears whole or not at all; who comes second leaves the first one's. */
async function store(path: string, pem: string): Promise<void> {
  const temporary = `${path}.${randomUUID()}.tmp`;
  const file = await effect('identity.create', () => open(temporary, 'wx', 0o600));
  try {
    await effect('identity.write', () => file.writeFile(pem));
    await effect('identity.fsync', () => file.sync());
  } finally {
    await file.close();
  }
  try {
    await effect('identity.link', () => link(temporary, path));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    await effect('identity.unlink', () => unlink(temporary));
  }
}

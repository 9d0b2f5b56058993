import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ConfigError } from '../../../src/config/config-error.ts';
import { loadConfig, parseConfig } from '../../../src/config/load-config.ts';
import { writeConfig } from '../../../src/config/write-config.ts';

const WHOLE = `site: a
node: n1
dataDir: data
database:
  url: postgres://offsite@db/offsite
temporal:
  address: 10.0.0.1:7233
  namespace: backup
source:
  imageRoots: [images, /srv/images]
  replicaSites:
    - site: b
      hosts: ['*']
      endpoints: ['b.example.org:7070']
      fingerprints: ['AB:${'CD'.repeat(31)}']
replica:
  listen: 0.0.0.0:7070
  directory: replicas
  advertise: b.example.org:7070
`;

function faultOf(text: string, environment: Record<string, string> = {}): ConfigError {
  try {
    parseConfig(text, '/etc/offsite/a.yaml', environment);
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
  throw new Error('the configuration was taken');
}

describe('parseConfig', () => {
  it('reads a whole file, with paths relative to it', () => {
    const config = parseConfig(WHOLE, '/etc/offsite/a.yaml');
    expect(config).toMatchObject({
      site: 'a',
      node: 'n1',
      dataDir: '/etc/offsite/data',
      temporal: { address: '10.0.0.1:7233', namespace: 'backup' },
      logLevel: 'info',
      replica: {
        listen: '0.0.0.0:7070',
        directory: '/etc/offsite/replicas',
        advertise: 'b.example.org:7070',
      },
    });
    expect(config.source?.imageRoots).toEqual(['/etc/offsite/images', '/srv/images']);
    expect(config.source?.replicaSites[0]?.fingerprints).toEqual([`ab${'cd'.repeat(31)}`]);
  });

  it('lays the environment over the file', () => {
    const config = parseConfig(WHOLE, '/etc/offsite/a.yaml', {
      OFFSITE_DATABASE_URL: 'postgres://other/db',
      OFFSITE_TEMPORAL_ADDRESS: 'cloud:7233',
      OFFSITE_TEMPORAL_NAMESPACE: 'prod',
      OFFSITE_LOG_LEVEL: '',
    });
    expect(config.database.url).toBe('postgres://other/db');
    expect(config.temporal).toEqual({ address: 'cloud:7233', namespace: 'prod' });
    expect(config.logLevel).toBe('info');
  });

  it('takes from the environment what the file leaves out', () => {
    const config = parseConfig('site: a\nnode: n1\ndataDir: /d\n', '/c.yaml', {
      OFFSITE_DATABASE_URL: 'postgresql://h/db',
    });
    expect(config.database.url).toBe('postgresql://h/db');
    expect(config.temporal).toEqual({});
  });

  it.each([
    [
      'an unknown key, with its line and what was meant',
      `${WHOLE}nodes: x\n`,
      "line 20: unknown key 'nodes' (did you mean 'node'?)",
    ],
    [
      'an unknown key deep within',
      WHOLE.replace('      hosts', '      host'),
      "line 13: unknown key 'source.replicaSites.0.host' (did you mean 'hosts'?)",
    ],
    [
      'a key that is like no other',
      WHOLE.replace('advertise: ', 'colour: '),
      "line 19: unknown key 'replica.colour' (known here: listen,",
    ],
    ['a missing key', WHOLE.replace('node: n1\n', ''), "'node' is missing"],
    ['an odd site name', WHOLE.replace('site: a', 'site: A/b'), "line 1: 'site': must be 1 to 32"],
    [
      'a bad endpoint',
      WHOLE.replace('0.0.0.0:7070', 'everywhere'),
      "line 17: 'replica.listen': 'everywhere' is no address",
    ],
    ['an endpoint without a port', WHOLE.replace('org:7070', 'org:0'), 'needs a port above 0'],
    ['a host with a separator', WHOLE.replace("['*']", "['../x']"), "a host's ident, or '*'"],
    ['a bad fingerprint', WHOLE.replace('AB:', 'XY:'), 'must be a SHA-256 fingerprint'],
    ['a database that is none', WHOLE.replace('postgres:', 'mysql:'), 'must be a connection string'],
    ['a wrong kind of value', WHOLE.replace('dataDir: data', 'dataDir: [x]'), "line 3: 'dataDir': "],
    ['text that is no YAML', 'site: [a', 'line 1: '],
    ['a key that is there twice', `${WHOLE}site: b\n`, 'line 20: '],
    ['an empty file', '', 'must hold keys and values'],
  ])('refuses %s', (_what, text, said) => {
    const fault = faultOf(text);
    expect(fault.code).toBe('ConfigInvalid');
    expect(fault.message).toContain('/etc/offsite/a.yaml: ');
    expect(fault.message).toContain(said);
    expect(fault.message).not.toContain('\n');
  });

  it('tells all faults at once', () => {
    const { message } = faultOf('site: a\nnod: n1\n');
    for (const said of ["unknown key 'nod'", "'node' is missing", "'dataDir' is missing"]) {
      expect(message).toContain(said);
    }
  });

  it('names the variable when the environment is at fault', () => {
    expect(faultOf(WHOLE, { OFFSITE_TEMPORAL_ADDRESS: 'nowhere' }).message).toContain(
      "OFFSITE_TEMPORAL_ADDRESS: 'nowhere' is no address",
    );
  });
});

describe('files', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'offsite-config-'));
  });
  afterEach(() => rm(folder, { recursive: true }));

  it('says that none was named, or that there is no such file', async () => {
    await expect(loadConfig(null, {})).rejects.toMatchObject({ code: 'ConfigMissing' });
    await expect(loadConfig(join(folder, 'no.yaml'), {})).rejects.toThrow(/there is no such file/);
    await expect(loadConfig(folder, {})).rejects.toThrow(/it is a folder/);
  });

  it('takes OFFSITE_CONFIG when none was named', async () => {
    const path = join(folder, 'a.yaml');
    await writeFile(path, WHOLE);
    expect((await loadConfig(null, { OFFSITE_CONFIG: path })).site).toBe('a');
  });

  it('reads back what was written, for its owner only and without a trace of the writing', async () => {
    const path = join(folder, 'b.yaml');
    const config = parseConfig(WHOLE, path);
    await writeFile(path, 'older');
    await writeConfig(path, config);
    expect(await loadConfig(path, {})).toEqual(config);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await readdir(folder)).toEqual(['b.yaml']);
  });

  it('writes nothing that could not be read', async () => {
    const path = join(folder, 'c.yaml');
    const config = parseConfig(WHOLE, path);
    await writeFile(path, 'older');
    await expect(writeConfig(path, { ...config, site: 'Not Good' })).rejects.toThrow();
    expect(await readFile(path, 'utf8')).toBe('older');
  });
});

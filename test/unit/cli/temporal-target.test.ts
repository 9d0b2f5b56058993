import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { temporalTarget } from '../../../src/orchestration/temporal-connection.ts';

beforeEach(() => {
  // No profile file of whoever runs the tests.
  vi.stubEnv('HOME', '/nonexistent');
  vi.stubEnv('XDG_CONFIG_HOME', '/nonexistent');
  vi.stubEnv('TEMPORAL_CONFIG_FILE', undefined);
});
afterEach(() => {
  vi.unstubAllEnvs();
});

it('uses an address of the configuration as it is, whatever the profile says', () => {
  vi.stubEnv('TEMPORAL_ADDRESS', 'cloud.example:7233');
  vi.stubEnv('TEMPORAL_API_KEY', 'key');
  expect(temporalTarget({ address: '127.0.0.1:7233' })).toEqual({
    address: '127.0.0.1:7233',
    namespace: 'default',
    connectionOptions: { address: '127.0.0.1:7233' },
  });
});

it("takes the rest from Temporal's own client profile", () => {
  vi.stubEnv('TEMPORAL_ADDRESS', 'cloud.example:7233');
  vi.stubEnv('TEMPORAL_NAMESPACE', 'backup');
  vi.stubEnv('TEMPORAL_API_KEY', 'key');
  expect(temporalTarget({})).toMatchObject({
    address: 'cloud.example:7233',
    namespace: 'backup',
    connectionOptions: { address: 'cloud.example:7233', apiKey: 'key', tls: true },
  });
  expect(temporalTarget({ namespace: 'mine' }).namespace).toBe('mine');
});

it('falls back to the local server', () => {
  expect(temporalTarget({})).toMatchObject({ address: 'localhost:7233', namespace: 'default' });
});

it('names a profile that does not exist', () => {
  vi.stubEnv('TEMPORAL_PROFILE', 'none-of-this-name');
  expect(() => temporalTarget({})).toThrow(expect.objectContaining({ code: 'TemporalProfileInvalid' }));
});

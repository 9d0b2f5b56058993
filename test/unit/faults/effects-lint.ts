/** Goes through the sources: every side effect stands at a registered fault point, and every point at one effect. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { FAULT_POINTS } from '../../../src/lib/fault-points.ts';
import { createEffects, type Effects } from './effect-calls.ts';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const REGISTRY = join(ROOT, 'src/lib/fault-points.ts');

/** Not of a site's work. */
const LEFT_OUT: readonly RegExp[] = [
  /^src\/(dev|cli)\//,
  // What fired is recorded beside the plan; it is no effect of the program.
  /^src\/lib\/fault-(points|injection)\.ts$/,
  // Only `offsite dev` writes configurations.
  /^src\/config\/write-config\.ts$/,
];

export interface LintViolation {
  readonly rule: 'effect without a fault point' | 'point without an effect' | 'point at several places';
  /** `src/images/overlay.ts:12 rename`, or the point. */
  readonly what: string;
}

export interface LintResult {
  readonly violations: readonly LintViolation[];
  /** Effects that were looked at; a lint that sees none proves nothing. */
  readonly effectCount: number;
}

/** Keeps the parsed sources, so that a second look with another snippet is cheap. */
export function createEffectsLint() {
  const options = readOptions();
  const host = ts.createCompilerHost(options);
  const parsed = new Map<string, ts.SourceFile | undefined>();
  const files = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
    .filter(file => file.endsWith('.ts'))
    .map(file => join(ROOT, 'src', file));
  let before: ts.Program | undefined;

  /** @param snippets more sources, by path below the project's folder; one that exists is replaced */
  return (snippets: Readonly<Record<string, string>> = {}): LintResult => {
    const added = new Map(Object.entries(snippets).map(([path, text]) => [join(ROOT, path), text]));
    const withSnippets: ts.CompilerHost = {
      ...host,
      fileExists: path => added.has(path) || host.fileExists(path),
      readFile: path => added.get(path) ?? host.readFile(path),
      getSourceFile(path, target, ...rest) {
        const text = added.get(path);
        if (text !== undefined) return ts.createSourceFile(path, text, target, true);
        if (!parsed.has(path)) parsed.set(path, host.getSourceFile(path, target, ...rest));
        return parsed.get(path);
      },
    };
    const names = [...new Set([...files, ...added.keys()])];
    const program = ts.createProgram(names, options, withSnippets, before);
    before = program;
    return check(program);
  };
}

function readOptions(): ts.CompilerOptions {
  const { config } = ts.readConfigFile(join(ROOT, 'tsconfig.json'), ts.sys.readFile);
  return ts.parseJsonConfigFileContent(config, ts.sys, ROOT).options;
}

function check(program: ts.Program): LintResult {
  const checker = program.getTypeChecker();
  const effects = createEffects(checker);
  const violations: LintViolation[] = [];
  const uses = new Map<string, string[]>(Object.keys(FAULT_POINTS).map(point => [point, []]));
  let effectCount = 0;
  const sources = program
    .getSourceFiles()
    .map(file => ({ file, path: file.fileName.slice(ROOT.length) }))
    .filter(
      ({ file, path }) => file.fileName.startsWith(join(ROOT, 'src/')) && !path.startsWith('src/workflows/'),
    );
  for (const { file, path } of sources) {
    if (file.fileName !== REGISTRY) noteUses(checker, file, path, uses);
    if (LEFT_OUT.some(left => left.test(path))) continue;
    for (const { node, name } of effectsIn(file, effects)) {
      effectCount += 1;
      if (isCovered(checker, node)) continue;
      const { line } = file.getLineAndCharacterOfPosition(node.getStart());
      violations.push({ rule: 'effect without a fault point', what: `${path}:${line + 1} ${name}` });
    }
  }
  for (const [point, places] of uses) {
    if (places.length === 0) violations.push({ rule: 'point without an effect', what: point });
    if (places.length > 1)
      violations.push({ rule: 'point at several places', what: `${point}: ${places.join(', ')}` });
  }
  return { violations, effectCount };
}

function effectsIn(file: ts.SourceFile, effects: Effects): { node: ts.Node; name: string }[] {
  const found: { node: ts.Node; name: string }[] = [];
  const visit = (node: ts.Node): void => {
    const name = ts.isCallExpression(node)
      ? effects.ofCall(node)
      : ts.isIdentifier(node)
        ? effects.handedOn(node)
        : null;
    if (name !== null) found.push({ node, name });
    ts.forEachChild(node, visit);
  };
  visit(file);
  return found;
}

/** Literals that name a point, and templates all of whose values do. */
function noteUses(
  checker: ts.TypeChecker,
  file: ts.SourceFile,
  path: string,
  uses: Map<string, string[]>,
): void {
  const visit = (node: ts.Node): void => {
    for (const point of pointsOf(checker, node)) {
      const { line } = file.getLineAndCharacterOfPosition(node.getStart());
      uses.get(point)?.push(`${path}:${line + 1}`);
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
}

function pointsOf(checker: ts.TypeChecker, node: ts.Node): readonly string[] {
  if (ts.isStringLiteralLike(node)) return Object.hasOwn(FAULT_POINTS, node.text) ? [node.text] : [];
  if (!ts.isTemplateExpression(node)) return [];
  const type = checker.getTypeAtLocation(node);
  const values = (type.isUnion() ? type.types : [type]).map(part =>
    part.isStringLiteral() ? part.value : '',
  );
  return values.every(value => Object.hasOwn(FAULT_POINTS, value)) ? values : [];
}

/** True within the work of a point, within a function that reaches both halves, or in a helper called only so. */
function isCovered(checker: ts.TypeChecker, node: ts.Node): boolean {
  for (let at: ts.Node = node; at.parent !== undefined; at = at.parent) {
    const { parent } = at;
    if (
      ts.isCallExpression(parent) &&
      ts.isFunctionLike(at) &&
      ['effect', 'effectSync'].includes(pointFunction(checker, parent))
    )
      return true;
    if (ts.isFunctionLike(parent) && (reachesBoth(checker, parent) || isHelperOfPoints(checker, parent)))
      return true;
  }
  return false;
}

/** `effect`, `beforeEffect`, …, or nothing: what a call calls of the registry. */
function pointFunction(checker: ts.TypeChecker, call: ts.CallExpression): string {
  const declaration = checker.getResolvedSignature(call)?.declaration;
  if (declaration?.getSourceFile().fileName !== REGISTRY) return '';
  return ts.isFunctionDeclaration(declaration) ? (declaration.name?.text ?? '') : '';
}

function reachesBoth(checker: ts.TypeChecker, within: ts.Node): boolean {
  const reached = new Set<string>();
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node)) reached.add(pointFunction(checker, node));
    ts.forEachChild(node, visit);
  };
  visit(within);
  return reached.has('beforeEffect') && reached.has('afterEffect');
}

/** A function of this file only, called at least once, and every time from within a point. */
function isHelperOfPoints(checker: ts.TypeChecker, candidate: ts.SignatureDeclaration): boolean {
  if (!ts.isFunctionDeclaration(candidate) || candidate.name === undefined) return false;
  if (candidate.modifiers?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword)) return false;
  const own = checker.getSymbolAtLocation(candidate.name);
  const places: ts.Node[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isIdentifier(node) && node !== candidate.name && checker.getSymbolAtLocation(node) === own)
      places.push(node);
    ts.forEachChild(node, visit);
  };
  visit(candidate.getSourceFile());
  return places.length > 0 && places.every(place => isCovered(checker, place));
}

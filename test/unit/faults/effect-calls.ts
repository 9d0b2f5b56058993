/** Which calls are side effects, as the types tell: a name means nothing until it is known whose it is. */
import ts from 'typescript';

const FS = /\/@types\/node\/fs(\/promises)?\.d\.ts$/;
const NET = /\/@types\/node\/(net|tls|stream)\.d\.ts$/;
const KNEX = /\/knex\//;
const PG = /\/@types\/pg\//;
const TEMPORAL = /\/@temporalio\/(client|common|worker|proto)\//;

const FILE_EFFECTS = new Set(
  `appendFile chmod chown copyFile cp createWriteStream datasync fchmod fdatasync fsync ftruncate futimes lchmod
   lchown link lutimes mkdir mkdtemp rename rm rmdir symlink sync truncate unlink utimes write writeFile writev`
    .split(/\s+/)
    .flatMap(name => [name, `${name}Sync`]),
);
const STATEMENTS = new Set([
  'insert',
  'update',
  'delete',
  'del',
  'increment',
  'decrement',
  'truncate',
  'upsert',
]);
const WORKFLOW_CALLS = new Set([
  'start',
  'execute',
  'signal',
  'signalWithStart',
  'terminate',
  'cancel',
  'executeUpdate',
  'startUpdate',
  'executeUpdateWithStart',
  'startUpdateWithStart',
]);
/** What only reads, as SQL text begins. Locks are effects, though a select takes them. */
const READS = /^\s*(\(|select|with|set|listen|show|extract|count|coalesce|max|min|true|false|\w+_at\b)/i;
const WRITES = /\b(insert into|update|delete from)\b|pg_(try_)?advisory_|pg_notify/i;

export type Effects = ReturnType<typeof createEffects>;

/** @returns what tells of a call which effect it is, null for none */
export function createEffects(checker: ts.TypeChecker) {
  /** Variables that hold an effect of `node:fs`, as `const writeAt = promisify(write)`. */
  const holders = new Set<ts.Symbol>();

  function ofCall(call: ts.CallExpression): string | null {
    const callee = call.expression;
    const held = checker.getSymbolAtLocation(callee);
    if (held !== undefined && holders.has(held)) return callee.getText();
    const declaration = checker.getResolvedSignature(call)?.declaration;
    const file = declaration?.getSourceFile().fileName ?? '';
    const name = ts.isPropertyAccessExpression(callee) ? callee.name.text : nameOf(callee);
    const receiver = ts.isPropertyAccessExpression(callee) ? callee.expression : null;
    return effectOf(file, call, name, receiver);
  }

  function effectOf(
    file: string,
    call: ts.CallExpression,
    name: string,
    receiver: ts.Expression | null,
  ): string | null {
    if (FS.test(file)) return fileEffect(call, name);
    if (NET.test(file))
      return receiver !== null && isSocket(receiver) && ['write', 'end'].includes(name) ? name : null;
    if (KNEX.test(file)) return knexEffect(call, name);
    if (PG.test(file)) return name === 'query' && !onlyReads(call.arguments[0]) ? 'query' : null;
    if (TEMPORAL.test(file)) return temporalEffect(receiver, name);
    return null;
  }

  /** The name as declared: imports may rename. */
  function nameOf(callee: ts.Expression): string {
    const symbol = checker.getSymbolAtLocation(callee);
    if (symbol === undefined) return callee.getText();
    return (symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol).name;
  }

  function fileEffect(call: ts.CallExpression, name: string): string | null {
    if (FILE_EFFECTS.has(name)) return name;
    if (name !== 'open' && name !== 'openSync') return null;
    const flags = call.arguments[1];
    if (flags === undefined) return null;
    const type = checker.getTypeAtLocation(flags);
    const values = (type.isUnion() ? type.types : [type]).map(part => flagsOf(part, flags));
    return values.some(value => /[wax]/.test(value)) ? 'open' : null;
  }

  /** Flags that nobody knows count as those that make a file; so do numbers that say it. */
  function flagsOf(type: ts.Type, node: ts.Expression): string {
    if (type.isStringLiteral()) return type.value;
    if (!(type.flags & ts.TypeFlags.NumberLike)) return 'w';
    // As with `r+`, opening to write makes nothing; the writes have points of their own.
    return /O_(CREAT|TRUNC|APPEND)/.test(declarationText(node)) ? 'w' : 'r';
  }

  function declarationText(node: ts.Expression): string {
    const declared = ts.isIdentifier(node) ? checker.getSymbolAtLocation(node)?.valueDeclaration : undefined;
    return (declared ?? node).getText();
  }

  function isSocket(receiver: ts.Expression): boolean {
    if (/^process\.std(out|err)$/.test(receiver.getText())) return false;
    const names = (type: ts.Type): string[] => [
      type.symbol?.name ?? '',
      ...(type.isClassOrInterface() ? checker.getBaseTypes(type).flatMap(names) : []),
    ];
    return names(checker.getTypeAtLocation(receiver)).some(name => name === 'Socket');
  }

  /** Statements of a transaction are none: its commit is. */
  function knexEffect(call: ts.CallExpression, name: string): string | null {
    if (isOfTransaction(call) || isMigration(call)) return null;
    if (name === 'transaction')
      return /readOnly: true/.test(call.arguments[1]?.getText() ?? '') ? null : name;
    if (name === 'raw') return onlyReads(call.arguments[0]) ? null : name;
    return STATEMENTS.has(name) ? name : null;
  }

  function isOfTransaction(call: ts.CallExpression): boolean {
    let root: ts.Expression = call;
    while (ts.isCallExpression(root) || ts.isPropertyAccessExpression(root)) root = root.expression;
    const type = checker.getTypeAtLocation(root);
    const parts = type.isUnion() ? type.types : [type];
    return parts.every(part => part.symbol?.name === 'Transaction');
  }

  /** The tool that runs migrations hands on our transaction as another type. */
  function isMigration(call: ts.CallExpression): boolean {
    for (let at: ts.Node = call; at.parent !== undefined; at = at.parent) {
      if (ts.isCallExpression(at) && at.expression.getText() === 'trx.migrate.latest') return true;
    }
    return false;
  }

  function temporalEffect(receiver: ts.Expression | null, name: string): string | null {
    const service = receiver === null ? '' : checker.getTypeAtLocation(receiver).symbol?.name;
    if (service === 'WorkflowService' || service === 'OperatorService') {
      return /^(get|list|describe|count|scan)/.test(name) ? null : name;
    }
    return WORKFLOW_CALLS.has(name) && /Client|Handle/.test(service ?? '') ? name : null;
  }

  function onlyReads(argument: ts.Expression | undefined): boolean {
    const text = argument === undefined ? null : textOf(argument);
    return text !== null && READS.test(text) && !WRITES.test(text);
  }

  /** The text of a literal, or of the constant that is named. */
  function textOf(node: ts.Expression): string | null {
    if (ts.isStringLiteralLike(node)) return node.text;
    if (ts.isTemplateExpression(node)) {
      const [first] = node.templateSpans;
      const begins = node.head.text === '' && first !== undefined ? textOf(first.expression) : '';
      return `${begins ?? ''}${node.getText().slice(1)}`;
    }
    if (!ts.isIdentifier(node)) return null;
    const declared = checker.getSymbolAtLocation(node)?.valueDeclaration;
    if (declared === undefined || !ts.isVariableDeclaration(declared) || declared.initializer === undefined)
      return null;
    return textOf(declared.initializer);
  }

  /** @returns the name when an effect of `node:fs` is handed on instead of called, where nobody can follow it */
  function handedOn(node: ts.Identifier): string | null {
    const symbol = checker.getSymbolAtLocation(node);
    if (symbol === undefined || !(symbol.flags & ts.SymbolFlags.Alias)) return null;
    const declaration = checker.getAliasedSymbol(symbol).declarations?.[0];
    if (declaration === undefined || !FS.test(declaration.getSourceFile().fileName)) return null;
    const name = nameOf(node);
    if (!FILE_EFFECTS.has(name) || ts.isImportSpecifier(node.parent)) return null;
    if (ts.isCallExpression(node.parent) && node.parent.expression === node) return null;
    const call = node.parent;
    if (
      ts.isCallExpression(call) &&
      call.expression.getText() === 'promisify' &&
      ts.isVariableDeclaration(call.parent)
    ) {
      const holder = checker.getSymbolAtLocation(call.parent.name);
      if (holder !== undefined) holders.add(holder);
      return null;
    }
    return name;
  }

  return { ofCall, handedOn };
}

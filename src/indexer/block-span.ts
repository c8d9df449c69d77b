/**
 * Lists of some blocks, position by position, as parts of larger arrays: of a few blocks the views of their
 * lists would take longer than all else that is done with them.
 */

/** Where keys, and the keys before them, lie in arrays. */
export interface KeyPart {
  readonly length: number;
  readonly keysAt: number;
  readonly parentsAt: number;
}

export function allOf({ length }: BigUint64Array): KeyPart {
  return { length, keysAt: 0, parentsAt: 0 };
}

export interface BlockSpan extends KeyPart {
  readonly handles: BigUint64Array;
  readonly handlesAt: number;
  readonly keys: BigUint64Array;
  /** Keys before them, as of IndexWriter; undefined: they are not known. */
  readonly parents: BigUint64Array | undefined;
  /** Rows of the relay's handle map; undefined: it does not tell them. */
  readonly rows: Uint32Array | undefined;
  readonly rowsAt: number;
}

/** All of these arrays. */
export function spanOf(lists: {
  readonly handles: BigUint64Array;
  readonly keys: BigUint64Array;
  readonly parents?: BigUint64Array;
  readonly rows?: Uint32Array;
}): BlockSpan {
  const { handles, keys, parents, rows } = lists;
  const length = handles.length;
  return { length, handles, handlesAt: 0, keys, keysAt: 0, parents, parentsAt: 0, rows, rowsAt: 0 };
}

import { blockIndexContract } from "../../src/indexer/block-index.contract.ts";
import { MemoryIndex } from "./memory-index.ts";

blockIndexContract(() => new MemoryIndex());

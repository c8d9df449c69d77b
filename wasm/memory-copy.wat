;; Copies bytes of one memory to another, which threads share. `set` of a typed array writes shared
;; memory word by word, and takes three times as long; AssemblyScript knows one memory only.
(module
  (import "env" "from" (memory $from 0))
  (import "env" "to" (memory $to 0 65536 shared))
  (func (export "copy") (param $to i32) (param $from i32) (param $bytes i32)
    (memory.copy $to $from (local.get $to) (local.get $from) (local.get $bytes))))

"""Writes expressions.json beside this file: what jinja2, set up as Hugging Face's transformers sets it up
for chat templates, makes of them.

usage: pip install jinja2 && python make-golden.py
"""
import json, os
from jinja2.sandbox import ImmutableSandboxedEnvironment

TEXTS = ["\n  indented", " x ", "\n\nx\n\n", "\ufeffx\ufeff", "\x85x\x85", "\x1cx\x1f", "\u3000x\u200b", "", "xxabxx", "it's o'neil-SMITH (a [b", "\U0001f642\U0001f642 a b",
         "\u00dfa \u01c6b \u0130c", "a, b,c", " a  b\tc ", "l1\nl2\r\n\nl3\u2028l4\n", "'\"\\\n\x00\u200b\U0001f600", "don't"]
OF_TEXT = ["x.strip()", "x.strip('\\n')", "x.lstrip('\\n')", "x.rstrip('\\n ')", "x.strip('xa')", "x.lstrip()", "x.rstrip()", "x | trim", "x | trim('x')", "x | length", "x | count",
           "x[:3]", "x[-2:]", "x[::-1]", "x[1:4:2]", "x[0]", "x[-1]", "x | title", "x.title()", "x | capitalize", "x.capitalize()", "x.split()", "x.split(',')", "x.split('x', 1)",
           "x.split(none, 1)", "x | indent", "x | indent(2, true)", "x | indent(width=3, blank=true)", "x | upper", "x | lower", "[x]", "x | list", "x | join('-')", "x ~ 1",
           "x | tojson", "x | tojson(ensure_ascii=true)", "x is lower", "x is upper", "x is sequence", "x is iterable", "x == '\\n\\nx\\n\\n'", "x in ['', 'xxabxx']", "'a' in x",
           "{'k': x}", "(x, 1)"]
VALUES = [None, True, False, 0, 7, -3, [], ["a", None, True, 1], {}, {"b": 1, "A": "x", "items": [1], "c": {"d": [None, False]}}, [[1, "1"], {"a": 0.5}], ["user", "User", "a", "user"], "7", "1"]
OF_VALUE = ["x", "x ~ '|'", "x | string", "x | tojson", "x | tojson(indent=2)", "x | tojson(sort_keys=true)", "x | tojson(separators=(',', ':'))", "x == none", "x == 1", "x == '1'",
            "x == 0", "x == missing", "x != missing", "x == y", "x in [none, 1, '1', true]", "x is number", "x is integer", "x is iterable", "x is sequence", "x is mapping", "x is boolean", "x | default('d')",
            "x | default('d', true)", "x is none", "not x", "x or 'o'"]
OF_LIST = ["x | length", "x | join(', ')", "x | unique | list", "x | list", "x[0]", "x[1:]", "x | first", "x | last"]
OF_DICT = ["x.items() | list", "x | items | list", "x.keys() | list", "x.values() | list", "x.get('b')", "x.get('z')", "x.get('z', 1)", "x | dictsort", "x | length", "x | list", "x['b']",
           "x.c.d", "'b' in x", "'z' not in x"]
BLOCKS = [
    ("{% for a in [1, 2, 3] %}{% if a == 1 %}{% set y = 'set' %}{% endif %}{{ y }},{% endfor %}{{ y }}", {"y": "outer"}),
    ("{% for a in [1, 2] %}{% set z = a %}{% for b in [3] %}{% set z = b %}{{ z }}{% endfor %}{{ z }};{% endfor %}{{ z is defined }}", {}),
    ("{% for a in missing %}x{% else %}none{% endfor %}", {}),
    ("{% for c in 'a\U0001f642' %}[{{ c }}]{% endfor %}", {}),
    ("{% for k in {'b': 1, 'a': 2} %}{{ k }}{% endfor %}{% for k, v in {'b': 1}.items() %}{{ k }}={{ v }}{{ loop.last }}{% endfor %}", {}),
    ("{% for m in said %}{% if m == said[-1] %}[{{ loop.index }}]{% endif %}{% endfor %}", {"said": [{"role": "user", "content": "a"}, {"role": "x"}, {"role": "user", "content": "a"}]}),
    ("{% for m in said %}{% if m.role == 'x' %}{% continue %}{% endif %}{{ m.role }}{% endfor %}", {"said": [{"role": "user"}, {"role": "x"}, {"role": "y"}]}),
    ("{% for m in said %}{{ m }}{{ loop.length }}{% if m > 9 %}{% break %}{% endif %}{% endfor %}", {"said": [1, 2]}),
    ("{% for a in [1, 2, 3, 4] if a % 2 == 0 %}{{ a }}{{ -a % 3 }}{% endfor %}", {}),
    ("{% set ns = namespace(a=0, b=none) %}{% for i in range(3) %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }} {{ ns.b }}", {}),
    ("{% macro m(a, b=none) %}{{ a }}|{{ b }}{% endmacro %}{{ m(none) }}{{ m(true, b=[1]) }}", {}),
    ("{% set c = '<think>\\n a \\n</think>\\n\\n  code' %}{{ c.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') }}|{{ c.split('</think>')[-1].lstrip('\\n') }}", {}),
    ("{{ said | selectattr('role', 'equalto', 'user') | map(attribute='content') | join(';') }}", {"said": [{"role": "user", "content": "a"}, {"role": "x", "content": "b"}, {"role": "user", "content": None}]}),
    ("{{ missing }}{{ none }}{{ 'a' if false }}{{ 1 / 2 }} {{ 4 / 2 }} {{ 7 // 2 }} {{ '12' | int + 1 }} {{ -1.5 | int }}", {}),
    ("{% if x in ('user',) %}in{% endif %}{% if 'us' in ('user',) %}part{% endif %}{{ ('a',) }}{{ (1, 2,) }}{{ () }}{{ ((1,), (x,),) }}{{ (x) }}", {"x": "user"}),
    ("{% for a in (x,) %}{{ a }}{% else %}none{% endfor %}{% set t = ('b',) %}{{ t[0] }}{{ t | length }}{{ 'q' if not () }}{{ ['y'] + [x,] }}{{ {'k': (x,),} }}", {"x": "a"}),
    ("{% macro m(a, b=(1,)) %}{{ a }}{{ b }}{% endmacro %}{{ m('c',) }}{{ m(a='d', b=()) }}{{ 'p'.split('p',) | length }}{{ x in (none,) }}{{ (x | upper,) | join('-',) }}", {"x": "z"}),
    ("{% if tools is defined and tools is not none %}T{% endif %}{% if calls %}C{% endif %}", {"tools": None, "calls": []}),
]

def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

def main():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    env.filters["tojson"] = tojson
    asked = [("{{ " + e + " }}", {"x": x}) for e in OF_TEXT for x in TEXTS] + [("{{ " + e + " }}", {"x": x, "y": {"b": 1}}) for e in OF_VALUE for x in VALUES]
    asked += [("{{ " + e + " }}", {"x": x}) for e in OF_LIST for x in VALUES if isinstance(x, list)] + [("{{ " + e + " }}", {"x": x}) for e in OF_DICT for x in VALUES if isinstance(x, dict)]
    made = []
    for template, variables in asked + BLOCKS:
        try:
            made.append({"template": template, "variables": variables, "text": env.from_string(template).render(**variables)})
        except Exception:
            pass  # what raises in Jinja is refused by the engine
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "expressions.json"), "w") as file:
        json.dump(made, file, separators=(",", ":"))
        file.write("\n")

main()

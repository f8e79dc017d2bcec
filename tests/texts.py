"""Text of many scripts and kinds, drawn from a seed, for tokenizers."""
import random
import unicodedata

WORDS = {
    "English": "the of and river station can't we'll they've I'm he'd it's weather Hello naïve WORLD "
               "tokenization antidisestablishmentarianism don't O'Neill's 's 'T",
    "French": "l'été où ça été forêt cœur déjà garçon aujourd'hui qu'il s'est Noël œuvre À Élan "
              "électricité «bonjour»",
    "Chinese": "我想在apple工作 电池温度 中文分词，测试。 模型 語言 设备的热量 龘 𠀀 你好！",
    "other": "Привет мир ελληνικά नमस्ते العربية ไทย 한국어 かな カタカナ Cửa Việt កាន់តែ עברית 𝔘𝔫𝔦",
    "code": "int main(void){return\t0;} for(i=0;i<n;i++) x[i]+=2*y; def f(x):\n    return x**2\n "
            "#include <stdio.h>\r\n <|not_a_token|> a->b &amp; /* */ ==> !== $HOME https://a.b/c?d=e",
    "emoji": "😁 🦙 👩‍👩‍👧‍👦 👨🏽‍💻 😶‍🌫️ 🏳️‍🌈 ❤️ 🇫🇷 1️⃣ 🚀✅",
    "digits": "0 12 333 4444 1234567890 3.14159 1,000,000 0x1F ½ ² Ⅷ ٣٤ १२ 2024-11-21 -40°C",
    "marks": "é n̈ ﬁ ﬂ … — “quoted” !!!!!! ... ?!?! ~~~ \ufeff \u200b \u200d \u00ad \u180e \x7f \x01",
}
SPACES = [" ", " ", " ", " ", " ", " ", "  ", "   ", "\t", "\t\t", "\n", "\n\n", "\r\n", "\r\n\r\n", " \n ", "\u00a0",
          "\u3000", "\u2003", "\u2028", "\u0085", "\v", "\f", "", " \t\n", "        ", "\u1680\u205f"]


def generated(seed, size):
    """Valid text of at least `size` bytes, in paragraphs of one language or mixed."""
    pick, parts, n = random.Random(seed), [], 0
    lists = [w.split(" ") for w in WORDS.values()]
    while n < size:
        words = pick.choice(lists)
        for _ in range(pick.randint(1, 40)):
            if pick.random() < 0.15:
                words = pick.choice(lists)
            part = pick.choice(words) + pick.choice(SPACES)
            if pick.random() < 0.05:
                part = chr(pick.choice([pick.randrange(32, 0x2000), pick.randrange(0x3000, 0xd800),
                                        pick.randrange(0x1f300, 0x1f650)])) * pick.randint(1, 3)
                part = part if assigned(part[0]) else " "
            parts.append(part)
            n += len(part.encode())
    return "".join(parts)


def assigned(character):
    """Letters of the newest Unicode differ between regex engines by their age; leave those out."""
    return unicodedata.ucd_3_2_0.category(character) != "Cn"

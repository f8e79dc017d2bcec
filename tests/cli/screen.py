"""An independent terminal: what a program's output looks like, by pyte."""
import unicodedata

import pyte


class Screen(pyte.HistoryScreen):
    """Forgets a pending wrap when the cursor is restored, as tmux does; notes what fills the last column."""

    def __init__(self, columns=80, rows=24):
        super().__init__(columns, rows, history=100000)
        self.in_last_column = ""
        self.stream = pyte.ByteStream(self)

    def restore_cursor(self):
        super().restore_cursor()
        self.cursor.x = min(self.cursor.x, self.columns - 1)

    def draw(self, data):
        for character in data:
            super().draw(character)
            if self.cursor.x == self.columns:
                self.in_last_column += character

    def feed(self, data):
        self.stream.feed(data)
        return self

    def said(self):
        """Lines from the oldest that scrolled away to the cursor's, without blanks at their ends."""
        rows = list(self.history.top) + [self.buffer[y] for y in range(self.cursor.y + 1)]
        return [unicodedata.normalize("NFC", "".join(row[x].data for x in range(self.columns)).rstrip())
                for row in rows]


def printable(text):
    """What of a text a screen shows: without control characters but tab and newline, composed."""
    return unicodedata.normalize("NFC", "".join(c for c in text if c in "\t\n" or unicodedata.category(c) != "Cc"))

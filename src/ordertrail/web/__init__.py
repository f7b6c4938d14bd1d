"""The pages: what `ordertrail serve` shows of a pipeline in a browser. They only read.

How a page is made:

1. A module of its name (`web/rejects.py`) has a function `rejects(moment: Moment, ask: Ask) -> Answer`, which runs in a
   thread. `moment` (`look.follow`) is the pipeline as it is; a page reads through it and through `look/` only:

   - `moment.status()` is what `ordertrail status` says; `moment.config` has the contract that the tables carry;
   - `moment.deliveries(("vendor", "state"))` are columns of `orders_deliveries`, an Arrow table kept in memory: what
     must be summed over all deliveries is summed there, once for a state of the tables, by `moment.kept(key, make)`;
   - `with moment.reading() as reader:` is the `Reader` for this thread alone, for calls that take milliseconds.

2. `web/pages.py` lists it as a `Page`: its name, its path, its title and the function. The path of a page is fixed, and
   all its state is in the query: `/delivery?id=0001`, never `/delivery/0001`. So a page has its twins at the same path
   with `.json` and, where its `Answer` has `rows`, `.csv`, and whatever a vendor calls a file is never part of a path.
   Before the first pass the function is not called, unless the page `begins`: a page says then what to do.

3. The `Answer` has the `document` of the JSON twin, the `rows` of the CSV twin, and what the template needs besides.
   `templates/rejects.html` extends `base.html`; it sees `ask`, `moment`, `page`, `doc` (the document) and `more`.
   `ask.text`, `ask.choice` and `ask.whole` read the query, and refuse what does not fit with an error that says what
   does; `ask.url(state="held")` is the address of this page with a change, `ask.to("/delivery", id=…)` that of another
   one. `ask.rows_most` is how many rows a twin may list: 50 on a page, 10,000 in CSV. A list goes on by a key
   (`after=…`), never by a number of rows, and is not counted as a whole.

4. A template shows values by filters, and repeated pieces by the macros of `macros.html`. Whatever is text is escaped
   by itself, and its invisible characters and marks of direction are shown as escapes (`shown.plain`): nothing of a
   file is markup, and `|safe` is not used. The filters: `count` (`12,345`), `share` (`1.2 %`), `size` (`1.4 MB`),
   `lasting` (seconds as `3 min`), `cell` (any value of a table), `short` (of a long text its beginning). `when(time)`
   is a time in the reader's zone with UTC on hover, `ago(time)` how long ago it was. Macros: `state(word)` (shape and
   word, never colour alone), `command(text)` (to be copied), `name(text)`, `empty(title)`, `onward(ask, after)`,
   `table(rows)`. Classes of the style sheet (`static/ordertrail.css`) rather than `style=`: the policy of the pages
   forbids both inline styles and inline scripts. Numbers stand right (`class="n"`).

5. A chart is made by `chart.py` as SVG, with a text for who does not see it, and with its table below.

An error of `ordertrail.errors` becomes a page that says what to do; any other one a page without its text, and a
traceback in the log.
"""

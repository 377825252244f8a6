/* jobtastic_ext for pages that have jQuery (1.9 to 4), as a classic script:
 *
 *   $('#report').jobtastic({task_id: id, on_success: function (task, el) { … }});
 *   $('#rows').jobtastic({task_id: id, table: {columns: [['Customer', 'customer']]}});
 *   $('.loading').djcelery({task_id: id, check_interval: 5000, on_success: …});   as in jquery-celery
 *
 * It needs jobtastic.js beside it, or where $.jobtastic.module says. */
(function ($) {
  'use strict';

  // Past the names in the page: an <img name=currentScript> would answer in its place.
  function own(kind, name) { return Object.getOwnPropertyDescriptor(kind.prototype, name); }
  function create(tag) { return own(Document, 'createElement').value.call(document, tag); }
  function isConnected(node) { return own(Node, 'isConnected').get.call(node); }

  var script = own(Document, 'currentScript').get.call(document);
  var here = script && script.src;
  var loading;

  var defaults = {
    prefix: '/task/',         // before the id in the address of a status
    check_interval: undefined, // ms between two questions; chosen by the client if left out
    bar: true,
    on_success: $.noop,       // (task, el)
    on_failure: $.noop,       // (task, el): FAILURE and REVOKED
    on_error: $.noop,         // (null, el, error): the server cannot be asked
    on_other: $.noop          // (task, el): STARTED, PROGRESS, RETRY, states of your own
  };

  $.jobtastic = {
    defaults: defaults,
    /** The address of jobtastic.js, if it is not beside this script. */
    module: undefined
  };

  function client() {
    var address = $.jobtastic.module || (here && here.replace(/jobtastic\.jquery[^/]*$/, 'jobtastic.js'));
    loading = loading || import(address);
    return loading;
  }

  function statusOf(options) {
    if (options.url) { return options.url; }
    var id = options.task_id;
    return typeof id === 'string' && id && options.prefix + encodeURIComponent(id) + '/status/';
  }

  function callback(options, name) {
    return typeof options[name] === 'function' ? options[name] : $.noop;
  }

  function stop(el) {
    el.each(function () {
      var controller = $.data(this, 'jobtastic');
      if (controller) { controller.abort(); }
      $.removeData(this, 'jobtastic');
    });
  }

  function addBar(el, options) {
    var bar = create('jobtastic-progress');
    if (options.label) { bar.setAttribute('label', options.label); }
    bar.strings = options.strings;
    bar.show({status: 'PENDING'});
    $(el.data('jobtasticBar')).remove();
    el.first().append(bar).data('jobtasticBar', bar);
    return bar;
  }

  function watch(el, options) {
    var url = statusOf(options);
    var controller = new AbortController();
    var inPage = el[0] && isConnected(el[0]);
    var bar;

    stop(el);
    el.each(function () { $.data(this, 'jobtastic', controller); });

    function told(name) {
      return function (task) {
        if (bar) { bar.show(task); }
        if (task.status === 'SUCCESS' && options.table) {
          try {
            fill(el, task.result, options.table);
          } catch (error) {
            (window.reportError || console.error)(error); // the page's own; its call backs go on
          }
        }
        if (name) { callback(options, name)(task, el); }
      };
    }
    function failed(error) {
      if (bar) { bar.fail(error); }
      callback(options, 'on_error')(null, el, error);
    }
    function send(address, init) {
      // Whoever removed the element no longer looks.
      if (inPage && !isConnected(el[0])) { controller.abort(); }
      return fetch(address, init);
    }

    if (!url) {
      failed(Object.assign(new Error('jobtastic: give a task_id or a url'), {final: true}));
      return;
    }
    client().then(function (module) {
      if (controller.signal.aborted) { return; }
      if (options.bar) { bar = addBar(el, options); }
      module.watchTask(url, {
        signal: controller.signal,
        fetch: send,
        events: options.events,
        interval: options.check_interval,
        onPending: function (task) { told(task.status === 'RETRY' && 'on_other')(task); },
        onProgress: told('on_other'),
        onSuccess: told('on_success'),
        onFailure: told('on_failure'),
        onUnconfirmed: function () { if (bar) { bar.doubt(); } },
        onError: failed
      });
    }, failed);
  }

  function plain(value) {
    return value === null || value === undefined ? '' :
      typeof value === 'object' ? JSON.stringify(value) : value;
  }

  function valueOf(row, key) {
    // Not what rows inherit, such as their constructor.
    return row && Object.prototype.hasOwnProperty.call(row, key) ? row[key] : undefined;
  }

  /** The titles, and the rows as arrays of what each column shows. */
  function cells(rows, columns) {
    columns = columns || Object.keys(Object(rows[0])).map(function (key) { return [key, key]; });
    return {
      titles: columns.map(function (column) { return String(column[0]); }),
      rows: rows.map(function (row) {
        return columns.map(function (column) {
          var value = column[1] === '' ? '' : valueOf(row, column[1]);
          return plain(column[2] ? column[2](value, row) : value);
        });
      })
    };
  }

  var ENTITIES = {'&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;'};

  /** A text as markup that shows it; a number or a flag is what it is. */
  function escaped(value) {
    return typeof value !== 'string' ? value :
      value.replace(/[&<>"']/g, function (one) { return ENTITIES[one]; });
  }

  function plainTable(table, made, html) {
    function line(values, tag, way) {
      return $('<tr>').append(values.map(function (value) { return $('<' + tag + '>')[way](value); }));
    }
    $('<thead>').append(line(made.titles, 'th', 'text')).appendTo(table)
      .find('th').attr('scope', 'col');
    $('<tbody>').append(made.rows.map(function (row) {
      return line(row.map(String), 'td', html ? 'html' : 'text');
    })).appendTo(table);
  }

  function dataTable(table, made, options) {
    var settings = {
      data: made.rows,
      columns: made.titles.map(function (title) { return {title: escaped(title)}; })
    };
    $.extend(settings, options.options);
    if (!options.html) {
      // For every use that DataTables makes of a cell, also to search and to sort: it takes what
      // holds an `&` for markup.  Of definitions the first wins, and those of the page come before.
      settings.columnDefs = [].concat(
        settings.columnDefs || [], settings.aoColumnDefs || [], {targets: '_all', render: escaped});
      delete settings.aoColumnDefs;
    }
    table.dataTable(settings);
  }

  function fill(el, result, options) {
    var rows = typeof options.rows === 'function' ? options.rows(result) :
      options.rows ? valueOf(result, options.rows) : result;
    var table = options.table ? $(options.table) : el.filter('table');
    if (!table.length) { table = $('<table>').appendTo(el.first()); }
    table.jobtasticTable(rows, options);
  }

  /**
   * Fill a table with rows (arrays or objects): a DataTable where DataTables is loaded, a plain
   * table where not. `columns`: [[title, key, format(value, row)], …], all keys if left out.
   * Cells are text, unless `html` says that they are markup you trust. `options` go to DataTables.
   */
  $.fn.jobtasticTable = function (rows, options) {
    options = options || {};
    var made = cells(Array.isArray(rows) ? rows : [], options.columns);
    return this.each(function () {
      var table = $(this);
      if ($.fn.dataTable && $.fn.dataTable.isDataTable(this)) { table.dataTable().api().destroy(); }
      table.find('caption, thead, tbody').remove();
      if (options.caption) { $('<caption>').text(options.caption).prependTo(table); }
      if ($.fn.dataTable) { dataTable(table, made, options); }
      else { plainTable(table, made, options.html); }
      table.show();
    });
  };

  /** Follow a task and show its bar inside the first element; `'stop'` ends it. */
  $.fn.jobtastic = function (options) {
    if (options === 'stop') { stop(this); } else { watch(this, $.extend({}, defaults, options)); }
    return this;
  };

  /** jquery-celery's call: the call backs alone, no bar. */
  $.fn.djcelery = function (options) {
    return this.jobtastic($.extend({}, options, {bar: false}));
  };
}(jQuery));
